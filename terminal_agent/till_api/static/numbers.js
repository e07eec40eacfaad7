// Numbers, money and times as the shop reads them. Nothing shown here is stored or sent: amounts stay whole numbers in
// the currency's smallest unit, digits stay ASCII.

const PERSIAN = "۰۱۲۳۴۵۶۷۸۹";
const ARABIC = "٠١٢٣٤٥٦٧٨٩";
const LONGEST_AMOUNT = 12;
const LONGEST_PHONE = 15; // ITU-T E.164

export function digits(text, language) {
  return language === "fa" ? String(text).replace(/\d/g, (digit) => PERSIAN[digit]) : String(text);
}

/** ASCII digits of whatever was typed: Persian, Arabic or Latin. */
export function foldDigits(text) {
  return text.replace(/[۰-۹٠-٩]/g, (digit) => Math.max(PERSIAN.indexOf(digit), ARABIC.indexOf(digit)));
}

/** What was typed as an amount: digits alone, no zeros before, not longer than an amount may be. */
export function typedAmount(text) {
  return foldDigits(text).replace(/\D/g, "").replace(/^0+/, "").slice(0, LONGEST_AMOUNT);
}

/** What was typed as a phone number: digits, and a plus before them. */
export function typedPhone(text) {
  const folded = foldDigits(text);
  return (/^\s*\+/.test(folded) ? "+" : "") + folded.replace(/\D/g, "").slice(0, LONGEST_PHONE);
}

/** As much of a phone number as stays on a screen: its last two digits. */
export function phoneEnd(phone, language) {
  return `…${digits(phone.slice(-2), language)}`;
}

/** A card's number in groups of four, as it is printed and read aloud; it may break between them. */
export function cardNumber(text) {
  return text.replace(/.{4}(?=.)/g, "$& ");
}

export function number(value, language) {
  return decimal(value, 0, language);
}

/** Points that came or went, with their sign. */
export function moved(value, language) {
  return value > 0 ? signed("+", number(value, language), language) : number(value, language);
}

/** The sign stays left of its number, in Persian text too. */
function signed(sign, shown, language) {
  return language === "fa" ? `\u2066${sign}${shown}\u2069` : sign + shown;
}

/** `{value, unit}` of an amount; `unit` as GET /v1/shop tells it. */
export function money(amount, unit, language) {
  const whole = 10 ** unit.places;
  const short = !unit.exact && amount % whole === 0;
  return {
    value: short ? decimal(amount / whole, 0, language) : decimal(amount, unit.places, language),
    unit: unit.name[language],
  };
}

export function moneyText(amount, unit, language) {
  const shown = money(amount, unit, language);
  return `${shown.value} ${shown.unit}`;
}

/** The amount that typed digits mean: whole tomans are ten rials each, else the smallest unit. */
export function amountOf(typed, unit) {
  const value = Number(typed || "0");
  return unit.exact ? value : value * 10 ** unit.places;
}

/** Typed digits as the amount's field shows them. */
export function typedShown(typed, unit, language) {
  return typed ? decimal(Number(typed), unit.exact ? unit.places : 0, language) : "";
}

function decimal(value, places, language) {
  const text = String(Math.abs(value)).padStart(places + 1, "0");
  const split = text.length - places;
  const [thousands, point] = language === "fa" ? ["٬", "٫"] : [",", "."];
  const whole = text.slice(0, split).replace(/\B(?=(\d{3})+$)/g, thousands);
  const shown = digits(whole + (places ? point + text.slice(split) : ""), language);
  return value < 0 ? signed(language === "fa" ? "\u2212" : "-", shown, language) : shown;
}

/** `۱۴۰۵/۰۹/۰۱` by the Jalali calendar, `2026-11-22` by the Gregorian; the shop's clock is Tehran's. */
export function date(moment, language) {
  const locale = language === "fa" ? "fa-IR-u-ca-persian-nu-arabext" : "en-CA";
  return new Intl.DateTimeFormat(locale, {
    timeZone: "Asia/Tehran", year: "numeric", month: "2-digit", day: "2-digit",
  }).format(new Date(moment));
}

export function timeOfDay(moment, language) {
  const shown = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Tehran", hour: "2-digit", minute: "2-digit" });
  return digits(shown.format(new Date(moment)), language);
}

/** `1:05` */
export function countdown(seconds, language) {
  const left = Math.max(0, Math.ceil(seconds));
  return digits(`${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`, language);
}
