// Everything the pages say, in both languages. Errors bring their own words from the till.

import { language } from "./preferences.js";

const WORDS = {
  "title": ["صندوق باشگاه", "Club till"],
  "customer.title": ["باشگاه مشتریان", "Members' club"],
  "connecting": ["در حال اتصال به صندوق…", "Connecting to the till…"],
  "lost": ["ارتباط این صفحه با صندوق قطع است؛ دوباره وصل می‌شود…", "This page has lost the till; it is reconnecting…"],
  "unreachable": ["صندوق پاسخ نمی‌دهد.", "The till does not answer."],
  "unreachable.action": ["چند لحظه صبر کنید و دوباره امتحان کنید.", "Wait a moment and try again."],

  "pair.title": ["اتصال این صفحه به صندوق", "Connect this page to the till"],
  "pair.how": [
    "روی رایانهٔ صندوق این فرمان را اجرا کنید و کد شش‌رقمی آن را اینجا بنویسید.",
    "Run this on the till's computer, and type the six digits it shows.",
  ],
  "pair.code": ["کد اتصال", "Pairing code"],
  "pair.go": ["اتصال", "Connect"],
  "customer.pair": ["این نمایشگر هنوز به صندوق وصل نشده است.", "This display is not connected to the till yet."],

  "sign-in.title": ["چه کسی پشت صندوق است؟", "Who is at the till?"],
  "sign-in.pin": ["رمز", "PIN"],
  "sign-in.go": ["ورود", "Sign in"],
  "sign-in.other": ["نام دیگر", "Another name"],
  "sign-out": ["خروج", "Sign out"],

  "amount": ["مبلغ خرید", "Amount"],
  "receipt": ["شمارهٔ رسید", "Receipt number"],
  "receipt.auto": ["خودکار", "automatic"],
  "erase": ["پاک کردن رقم آخر", "Erase the last digit"],
  "keypad": ["صفحه‌کلید عددی", "Keypad"],
  "take": ["ثبت با کارت", "Take the card"],
  "earn": ["ثبت امتیاز", "Give points"],
  "spend": ["خرج {points} امتیاز", "Spend {points} points"],
  "spend.worth": ["{money} کمتر", "{money} off"],
  "spend.hint": [
    "برای خرج امتیاز، کارت مشتری را پیش از ثبت روی کارت‌خوان بگذارید.",
    "To spend points, put the customer's card on the reader first.",
  ],
  "card.here": ["کارت روی کارت‌خوان", "Card on the reader"],
  "card.looking": ["در حال خواندن کارت…", "Reading the card…"],
  "member": ["عضو باشگاه", "Club member"],
  "points": ["امتیاز", "points"],
  "sales": ["آخرین خریدها", "Latest sales"],
  "sales.none": ["هنوز خریدی ثبت نشده است.", "No sales yet."],
  "sale.return": ["مرجوعی", "Return"],
  "sale.in_doubt": ["در انتظار کارت", "Waits for its card"],
  "sale.closed": ["ثبت در مرکز", "Booked at the club"],
  "sale.card": ["شمارهٔ کارت", "Card number"],
  "sale.time": ["زمان", "Time"],
  "sale.earned": ["امتیاز داده‌شده", "Points given"],
  "sale.redeemed": ["امتیاز خرج‌شده", "Points spent"],
  "return.title": ["مرجوع کردن خرید", "Return this sale"],
  "return.whole": ["مرجوعی کامل", "Return all of it"],
  "return.part": ["مرجوعی بخشی از مبلغ", "Return a part"],
  "return.amount": ["مبلغ مرجوعی", "Amount to return"],
  "close": ["بستن", "Close"],

  "waiting": ["کارت را روی کارت‌خوان بگذارید", "Put the card on the reader"],
  "reading": ["کارت را نگه دارید", "Hold the card still"],
  "writing": ["کارت را نگه دارید", "Hold the card still"],
  "done": ["کارت را بردارید", "Remove the card"],
  "done.lifted": ["انجام شد", "Done"],
  "in_doubt": ["همان کارت را دوباره بگذارید", "Put the SAME card back"],
  "in_doubt.why": [
    "کارت زود برداشته شد. خرید ثبت شده است و هیچ امتیازی گم نمی‌شود.",
    "The card left too soon. The sale is recorded, and no points are lost.",
  ],
  "in_doubt.left": ["زمان باقی‌مانده", "Time left"],
  "in_doubt.later": [
    "این کارت هر وقت دوباره گذاشته شود، امتیازش کامل می‌شود؛ وگرنه امتیازها در مرکز ثبت می‌شود.",
    "The next tap of this card completes it; without it, the points are booked at the club.",
  ],
  "leave": ["ادامه بدون کارت", "Go on without the card"],
  "failed": ["انجام نشد", "Not done"],
  "expired": ["کارتی گذاشته نشد", "No card came"],
  "closed": ["خرید ثبت شد", "The sale is recorded"],
  "closed.why": [
    "امتیازها در مرکز ثبت شد و در مراجعهٔ بعدی به کارت می‌رسد.",
    "The points are booked at the club and reach the card at its next visit.",
  ],
  "cancel": ["انصراف", "Cancel"],
  "next": ["خرید بعدی", "Next sale"],
  "spend.instead": ["خرج {points} امتیاز به‌جای آن", "Spend {points} points instead"],
  "return.of": ["مرجوعی رسید {receipt}", "Return of receipt {receipt}"],
  "sale.of": ["رسید {receipt}", "Receipt {receipt}"],
  "earned": ["امتیاز این خرید", "Points for this sale"],
  "taken": ["تغییر امتیاز", "Change of points"],
  "now": ["امتیاز فعلی", "Points now"],
  "to_pay": ["قابل پرداخت", "To pay"],
  "replayed": ["این رسید قبلاً ثبت شده بود؛ امتیازها تغییری نکرد.", "This receipt was recorded before; no points moved."],
  "stamps": ["{count} مهر", "{count} stamps"],

  "rule.earn": ["امتیاز خرید", "For the amount"],
  "rule.tier": ["پاداش سطح عضویت", "Tier bonus"],
  "rule.offer": ["پیشنهاد ویژه", "Offer"],
  "rule.stamps": ["کارت مهر", "Stamp card"],
  "rule.redeem": ["امتیاز خرج‌شده", "Points spent"],
  "rule.adjustment": ["اصلاح از سوی مرکز", "From head office"],
  "rule.return": ["کسر بابت مرجوعی", "Taken back"],
  "rule.give_back": ["امتیاز بازگشتی", "Given back"],
  "rule.other": ["سایر", "Other"],

  "offline": ["بدون ارتباط با مرکز کار می‌کنیم؛ امتیازها بعداً خودکار ارسال می‌شود.", "Working offline: points are sent later by themselves."],
  "unauthorized": ["سرور باشگاه این صندوق را نمی‌پذیرد؛ فروش ادامه دارد. به دفتر مرکزی خبر دهید.", "The club's server does not accept this till. Go on selling, and tell head office."],
  "reader.lost": ["ارتباط با کارت‌خوان قطع است؛ کابل آن را بررسی کنید.", "The card reader is disconnected: check its cable."],

  "health": ["وضعیت صندوق", "Health of the till"],
  "health.reader": ["کارت‌خوان", "Card reader"],
  "health.reader.ready": ["آماده", "ready"],
  "health.reader.lost": ["قطع", "lost"],
  "health.reader.none": ["تنظیم نشده", "none"],
  "health.crm": ["سرور باشگاه", "Club's server"],
  "health.crm.up": ["وصل", "online"],
  "health.crm.down": ["قطع", "offline"],
  "health.crm.unauthorized": ["پذیرفته نشد", "not accepted"],
  "health.crm.not_enrolled": ["مستقل", "stand-alone"],
  "health.crm.unknown": ["در حال بررسی", "checking"],
  "health.pending": ["در انتظار ارسال", "Waiting to be sent"],
  "health.oldest": ["قدیمی‌ترین", "Oldest"],
  "health.minutes": ["{count} دقیقه", "{count} min"],
  "health.in_doubt": ["خرید در انتظار کارت", "Sales waiting for their card"],
  "health.quarantined": ["نیازمند بررسی", "Needs attention"],
  "health.terminal": ["شناسهٔ صندوق", "Till"],
  "health.version": ["نسخه", "Version"],
  "waits": ["{count} در انتظار", "{count} waiting"],

  "language": ["English", "فارسی"],
  "language.to": ["Switch to English", "تغییر زبان به فارسی"],
  "theme.auto": ["رنگ: مانند دستگاه", "Colours: like the device"],
  "theme.light": ["رنگ: روشن", "Colours: light"],
  "theme.dark": ["رنگ: تیره", "Colours: dark"],
  "sound.on": ["صدا روشن است", "Sound is on"],
  "sound.off": ["صدا خاموش است", "Sound is off"],
  "customer.view": ["نمای مشتری", "Customer's view"],

  "hello": ["خوش آمدید", "Welcome"],
  "customer.ready": ["به باشگاه ما خوش آمدید", "Welcome to our club"],
  "customer.thanks": ["سپاس از خرید شما", "Thank you"],
};

/** The words for `key` in the page's language, with {names} filled in. */
export function t(key, values = {}) {
  const [fa, en] = WORDS[key];
  return (language() === "fa" ? fa : en).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function has(key) {
  return key in WORDS;
}

/** One of `{fa, en}`, as the till tells names and errors. */
export function said(words) {
  return words[language()];
}
