CREATE TABLE adjustments (
	card_no TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	points BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (card_no, number)
);
INSERT INTO "adjustments" VALUES('1000000000000009',1,40,'a gift','2026-11-22T10:10:58.572Z');
CREATE TABLE card_chain (
	card_no TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	intent_id TEXT, 
	balance_before BIGINT, 
	balance_after BIGINT, 
	adjustments_through BIGINT, 
	PRIMARY KEY (card_no, sequence, fingerprint)
);
INSERT INTO "card_chain" VALUES('1000000000000009',1,'af3b617e04db1a73d8da1740dcb3b8fc565d97600b4168ef927a519b0ed054a4','01a202bc-d172-758a-9bea-9c68462356fc',NULL,0,10,0);
INSERT INTO "card_chain" VALUES('1000000000000009',2,'ef1cea97e8f0fb33f48a3e636415a977ed22c4d33d7ae685942caf4f3dc3bd6b','01a202bc-d172-7aae-bbab-e871863674c4',NULL,10,35,0);
INSERT INTO "card_chain" VALUES('2000000000000008',1,'21eec4e7f07ce3edf29ca0f19deb88e7da1adb3077594e764a58820a74ab503d','01a202bc-d172-70a0-b219-4c6668988e2b',NULL,0,7,0);
CREATE TABLE cards (
	card_no TEXT NOT NULL, 
	uid TEXT, 
	member_id TEXT, 
	status TEXT NOT NULL, 
	balance BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	adjustments_through BIGINT NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (card_no)
);
INSERT INTO "cards" VALUES('1000000000000009',NULL,NULL,'active',75,2,1,'2026-11-22T09:30:00.000Z');
INSERT INTO "cards" VALUES('2000000000000008',NULL,NULL,'active',7,1,0,'2026-11-22T09:30:00.000Z');
CREATE TABLE enrolment_codes (
	code_hash TEXT NOT NULL, 
	expires_at TEXT NOT NULL, 
	used_at TEXT, 
	PRIMARY KEY (code_hash)
);
CREATE TABLE entries (
	transfer_id BIGINT NOT NULL, 
	account TEXT NOT NULL, 
	points BIGINT NOT NULL, 
	PRIMARY KEY (transfer_id, account)
);
INSERT INTO "entries" VALUES(1,'programme:issued',-10);
INSERT INTO "entries" VALUES(1,'card:1000000000000009',10);
INSERT INTO "entries" VALUES(2,'programme:issued',-30);
INSERT INTO "entries" VALUES(2,'card:1000000000000009',30);
INSERT INTO "entries" VALUES(3,'card:1000000000000009',-5);
INSERT INTO "entries" VALUES(3,'programme:redeemed',5);
INSERT INTO "entries" VALUES(4,'programme:issued',-7);
INSERT INTO "entries" VALUES(4,'card:2000000000000008',7);
INSERT INTO "entries" VALUES(5,'programme:adjusted',-40);
INSERT INTO "entries" VALUES(5,'card:1000000000000009',40);
CREATE TABLE events (
	terminal_id TEXT NOT NULL, 
	install_epoch TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	time TEXT NOT NULL, 
	card_no TEXT, 
	card_sequence BIGINT, 
	earned BIGINT NOT NULL, 
	redeemed BIGINT NOT NULL, 
	amount BIGINT, 
	currency TEXT, 
	reverses TEXT, 
	body TEXT NOT NULL, 
	verdict TEXT NOT NULL, 
	code TEXT, 
	booked_at TEXT NOT NULL, 
	PRIMARY KEY (terminal_id, install_epoch, sequence, fingerprint)
);
INSERT INTO "events" VALUES('shop-1','0190d000-0000-7000-8000-000000000001',1,'af3b617e04db1a73d8da1740dcb3b8fc565d97600b4168ef927a519b0ed054a4','01a202bc-d172-758a-9bea-9c68462356fc','purchase.recorded','2026-11-22T09:30:00.000Z','1000000000000009',1,10,0,1000,NULL,NULL,'{"data":{"card":{"adjustments_through":0,"balance_after":10,"balance_before":0,"card_no":"1000000000000009","sequence":1},"points":{"earned":10,"redeemed":0},"purchase":{"amount":1000}},"datacontenttype":"application/json","id":"01a202bc-d172-758a-9bea-9c68462356fc","sequence":"1","source":"/terminals/shop-1/0190d000-0000-7000-8000-000000000001","specversion":"1.0","subject":"cards/1000000000000009","time":"2026-11-22T09:30:00.000Z","type":"purchase.recorded"}','accepted',NULL,'2026-11-22T09:30:00.000Z');
INSERT INTO "events" VALUES('shop-1','0190d000-0000-7000-8000-000000000001',2,'ef1cea97e8f0fb33f48a3e636415a977ed22c4d33d7ae685942caf4f3dc3bd6b','01a202bc-d172-7aae-bbab-e871863674c4','purchase.recorded','2026-11-22T09:30:00.000Z','1000000000000009',2,30,5,1000,NULL,NULL,'{"data":{"card":{"adjustments_through":0,"balance_after":35,"balance_before":10,"card_no":"1000000000000009","sequence":2},"points":{"earned":30,"redeemed":5},"purchase":{"amount":1000}},"datacontenttype":"application/json","id":"01a202bc-d172-7aae-bbab-e871863674c4","sequence":"2","source":"/terminals/shop-1/0190d000-0000-7000-8000-000000000001","specversion":"1.0","subject":"cards/1000000000000009","time":"2026-11-22T09:30:00.000Z","type":"purchase.recorded"}','accepted',NULL,'2026-11-22T09:30:00.000Z');
INSERT INTO "events" VALUES('shop-1','0190d000-0000-7000-8000-000000000001',3,'21eec4e7f07ce3edf29ca0f19deb88e7da1adb3077594e764a58820a74ab503d','01a202bc-d172-70a0-b219-4c6668988e2b','purchase.recorded','2026-11-22T09:30:00.000Z','2000000000000008',1,7,0,1000,NULL,NULL,'{"data":{"card":{"adjustments_through":0,"balance_after":7,"balance_before":0,"card_no":"2000000000000008","sequence":1},"points":{"earned":7,"redeemed":0},"purchase":{"amount":1000}},"datacontenttype":"application/json","id":"01a202bc-d172-70a0-b219-4c6668988e2b","sequence":"3","source":"/terminals/shop-1/0190d000-0000-7000-8000-000000000001","specversion":"1.0","subject":"cards/2000000000000008","time":"2026-11-22T09:30:00.000Z","type":"purchase.recorded"}','accepted',NULL,'2026-11-22T09:30:00.000Z');
CREATE TABLE feed (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	kind TEXT NOT NULL, 
	document TEXT NOT NULL, 
	published_at TEXT NOT NULL, 
	digest TEXT NOT NULL
);
INSERT INTO "feed" VALUES(1,'policy','{"document":{"currency":"IRR","earn":{"basis":"gross","per_amount":10000,"points":1},"offers":[],"offline":{"points_per_card":200,"points_per_terminal_day":2000},"redeem":{"amount_per_point":100,"maximum_share_percent":100,"minimum_points":1},"returns":{"window_days":30},"tiers":[],"valid_from":"2026-01-01T00:00:00Z","version":"default"},"kind":"policy","valid_from":"2026-01-01T00:00:00Z","version":"default"}','2026-11-22T10:10:58.533Z','0f1333cbd3caaa17');
INSERT INTO "feed" VALUES(2,'adjustment','{"card_no":"1000000000000009","kind":"adjustment","number":1,"points":40,"reason":"a gift"}','2026-11-22T10:10:58.572Z','b135766836ac0080');
CREATE TABLE holds (
	terminal_id TEXT NOT NULL, 
	hold_id TEXT NOT NULL, 
	card_no TEXT NOT NULL, 
	points BIGINT NOT NULL, 
	card_sequence BIGINT NOT NULL, 
	reference TEXT, 
	state TEXT NOT NULL, 
	placed_at TEXT NOT NULL, 
	expires_at TEXT NOT NULL, 
	PRIMARY KEY (terminal_id, hold_id)
);
CREATE TABLE hotlist (
	card_no TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	blocked_at TEXT NOT NULL, 
	PRIMARY KEY (card_no)
);
CREATE TABLE intents_in_doubt (
	card_no TEXT NOT NULL, 
	intent_id TEXT NOT NULL, 
	sequence_before BIGINT, 
	sequence_after BIGINT, 
	balance_before BIGINT, 
	balance_after BIGINT, 
	adjustments_before BIGINT, 
	adjustments_through BIGINT, 
	booked BIGINT NOT NULL, 
	adjusted BIGINT NOT NULL, 
	told BOOLEAN, 
	landed BOOLEAN, 
	PRIMARY KEY (card_no, intent_id)
);
CREATE TABLE members (
	member_id TEXT NOT NULL, 
	alias_of TEXT, 
	phone TEXT, 
	name TEXT, 
	tier TEXT NOT NULL, 
	status TEXT NOT NULL, 
	enrolled_at TEXT NOT NULL, 
	PRIMARY KEY (member_id)
);
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('programme_id','01a202bc-d165-7094-831e-ebe169dffa5e');
INSERT INTO "meta" VALUES('commits','3');
CREATE TABLE policies (
	version TEXT NOT NULL, 
	valid_from TEXT NOT NULL, 
	document TEXT NOT NULL, 
	published_at TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "policies" VALUES('default','2026-01-01T00:00:00Z','{"currency":"IRR","earn":{"basis":"gross","per_amount":10000,"points":1},"offers":[],"offline":{"points_per_card":200,"points_per_terminal_day":2000},"redeem":{"amount_per_point":100,"maximum_share_percent":100,"minimum_points":1},"returns":{"window_days":30},"tiers":[],"valid_from":"2026-01-01T00:00:00Z","version":"default"}','2026-11-22T10:10:58.533Z');
CREATE TABLE progress (
	terminal_id TEXT NOT NULL, 
	install_epoch TEXT NOT NULL, 
	acked_through BIGINT NOT NULL, 
	PRIMARY KEY (terminal_id, install_epoch)
);
INSERT INTO "progress" VALUES('shop-1','0190d000-0000-7000-8000-000000000001',3);
CREATE TABLE terminals (
	terminal_id TEXT NOT NULL, 
	token_hash TEXT NOT NULL, 
	secret BLOB NOT NULL, 
	name TEXT, 
	enrolled_at TEXT NOT NULL, 
	revoked_at TEXT, 
	PRIMARY KEY (terminal_id), 
	UNIQUE (token_hash)
);
CREATE TABLE transfers (
	transfer_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	reference TEXT NOT NULL, 
	booked_at TEXT NOT NULL, 
	PRIMARY KEY (transfer_id)
);
INSERT INTO "transfers" VALUES(1,'purchase.recorded','01a202bc-d172-758a-9bea-9c68462356fc','2026-11-22T09:30:00.000Z');
INSERT INTO "transfers" VALUES(2,'purchase.recorded','01a202bc-d172-7aae-bbab-e871863674c4','2026-11-22T09:30:00.000Z');
INSERT INTO "transfers" VALUES(3,'purchase.recorded','01a202bc-d172-7aae-bbab-e871863674c4','2026-11-22T09:30:00.000Z');
INSERT INTO "transfers" VALUES(4,'purchase.recorded','01a202bc-d172-70a0-b219-4c6668988e2b','2026-11-22T09:30:00.000Z');
INSERT INTO "transfers" VALUES(5,'adjustment','1000000000000009/1','2026-11-22T10:10:58.572Z');
CREATE INDEX events_by_reversed ON events (card_no, reverses);
CREATE INDEX events_by_id ON events (terminal_id, id);
CREATE INDEX events_by_card ON events (card_no, booked_at);
CREATE INDEX members_by_phone ON members (phone);
CREATE INDEX cards_by_member ON cards (member_id);
CREATE INDEX entries_by_account ON entries (account);
CREATE INDEX intents_by_sequence ON intents_in_doubt (card_no, sequence_after);
CREATE INDEX holds_by_card ON holds (card_no, state);
CREATE UNIQUE INDEX holds_by_reference ON holds (terminal_id, reference);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('feed',2);
