-- The log, what rides on its commits, and the views of one stream. Times are unix seconds.

CREATE TABLE log (
  log_id     TEXT NOT NULL,
  created    REAL NOT NULL,
  generation INTEGER NOT NULL
) STRICT;

-- A stream is its events; its head is the version of the last one.
CREATE TABLE events (
  position     INTEGER PRIMARY KEY,
  stream       TEXT NOT NULL,
  version      INTEGER NOT NULL,
  type         TEXT NOT NULL,
  type_version INTEGER NOT NULL,
  at           REAL NOT NULL,
  causation    TEXT NOT NULL,
  correlation  TEXT NOT NULL,
  data         BLOB NOT NULL,
  UNIQUE (stream, version)
) STRICT;

CREATE TABLE snapshots (
  stream  TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  data    BLOB NOT NULL
) STRICT;

CREATE TABLE receipts (
  owner      TEXT NOT NULL,
  command_id TEXT NOT NULL,
  hash       TEXT NOT NULL,
  code       TEXT NOT NULL,
  detail     TEXT NOT NULL,
  answer     BLOB NOT NULL,
  at         REAL NOT NULL,
  PRIMARY KEY (owner, command_id)
) STRICT;
CREATE INDEX receipts_by_age ON receipts (at);

CREATE TABLE effects (
  ordinal    INTEGER PRIMARY KEY,
  stream     TEXT NOT NULL,
  id         TEXT NOT NULL,
  kind       TEXT NOT NULL,
  data       BLOB NOT NULL,
  generation INTEGER NOT NULL,
  UNIQUE (stream, id)
) STRICT;

CREATE TABLE sessions (
  session            TEXT PRIMARY KEY,
  stream             TEXT NOT NULL,
  generation         INTEGER NOT NULL,
  kind               TEXT NOT NULL,
  runner             TEXT NOT NULL,
  translator_version INTEGER NOT NULL,
  translator_state   BLOB NOT NULL,
  frame_no           INTEGER NOT NULL,
  open               INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_stream ON sessions (stream, generation);
CREATE INDEX sessions_open ON sessions (stream) WHERE open = 1;

-- Apart from the session's row, which changes with every frame: a launch is written once and may be large.
CREATE TABLE launches (
  session TEXT PRIMARY KEY,
  launch  BLOB NOT NULL
) STRICT;

CREATE TABLE writes (
  ordinal INTEGER PRIMARY KEY,
  stream  TEXT NOT NULL,
  session TEXT NOT NULL,
  id      TEXT NOT NULL,
  data    BLOB NOT NULL,
  UNIQUE (session, id)
) STRICT;
CREATE INDEX writes_by_stream ON writes (stream);

CREATE TABLE drafts (
  item_id  TEXT NOT NULL,
  "offset" INTEGER NOT NULL,
  text     TEXT NOT NULL,
  PRIMARY KEY (item_id, "offset")
) STRICT, WITHOUT ROWID;

-- Views. Long texts are not copied: a column that is named after an event holds its position.

CREATE TABLE threads (
  id                    TEXT PRIMARY KEY,
  owner                 TEXT NOT NULL,
  title                 TEXT NOT NULL,
  project               TEXT NOT NULL,
  cwd                   TEXT NOT NULL,
  add_dirs              TEXT NOT NULL,
  agent                 TEXT NOT NULL,
  model                 TEXT NOT NULL,
  effort                TEXT NOT NULL,
  mode                  TEXT NOT NULL,
  plan                  INTEGER NOT NULL,
  parent                TEXT,
  status                TEXT NOT NULL DEFAULT 'idle',
  last_end              TEXT,
  queue_held            INTEGER NOT NULL DEFAULT 0,
  context_used          INTEGER NOT NULL DEFAULT 0,
  context_window        INTEGER NOT NULL DEFAULT 0,
  usage_input           INTEGER,
  usage_output          INTEGER,
  usage_cache_read      INTEGER,
  usage_cache_write     INTEGER,
  usage_cost_usd        REAL,
  usage_duration_ms     INTEGER,
  usage_api_duration_ms INTEGER,
  created_at            REAL NOT NULL,
  updated_at            REAL NOT NULL,
  newest                INTEGER NOT NULL
) STRICT;
CREATE INDEX threads_by_activity ON threads (newest);

CREATE TABLE runs (
  id               TEXT PRIMARY KEY,
  thread_id        TEXT NOT NULL REFERENCES threads (id),
  ordinal          INTEGER NOT NULL,
  status           TEXT NOT NULL,
  origin           TEXT NOT NULL,
  command_id       TEXT,
  agent            TEXT NOT NULL,
  model            TEXT NOT NULL,
  mode             TEXT NOT NULL,
  effort           TEXT NOT NULL,
  queued           INTEGER NOT NULL,
  answer           INTEGER,
  failure          TEXT,
  usage            TEXT,
  attempts         INTEGER NOT NULL DEFAULT 0,
  forced           INTEGER NOT NULL DEFAULT 0,
  queued_at        REAL NOT NULL,
  started_at       REAL,
  ended_at         REAL,
  rolled_back_at   REAL,
  last_activity_at REAL NOT NULL,
  stalled_since    REAL,
  UNIQUE (thread_id, ordinal)
) STRICT;
CREATE INDEX runs_unfinished ON runs (thread_id) WHERE ended_at IS NULL;

-- An item is found by its ordinal, which is the number in its id: an index of ids would cost a page in each commit.
CREATE TABLE items (
  id         TEXT NOT NULL,
  thread_id  TEXT NOT NULL REFERENCES threads (id),
  run_id     TEXT,
  attempt    INTEGER NOT NULL,
  ordinal    INTEGER NOT NULL,
  parent_id  TEXT,
  command_id TEXT,
  kind       TEXT NOT NULL,
  status     TEXT NOT NULL,
  started    INTEGER NOT NULL,
  completed  INTEGER,
  at         REAL NOT NULL,
  PRIMARY KEY (thread_id, ordinal)
) STRICT;
CREATE INDEX items_open ON items (thread_id) WHERE status = 'open';

CREATE TABLE requests (
  id          TEXT PRIMARY KEY,
  thread_id   TEXT NOT NULL REFERENCES threads (id),
  run_id      TEXT NOT NULL,
  opened      INTEGER NOT NULL,
  generation  INTEGER NOT NULL,
  version     INTEGER NOT NULL,
  state       TEXT NOT NULL,
  live        INTEGER NOT NULL,
  reason      TEXT,
  decision    TEXT,
  decided_by  TEXT,
  asked_at    REAL NOT NULL,
  answered_at REAL
) STRICT;
CREATE INDEX requests_by_thread ON requests (thread_id, opened);
CREATE INDEX requests_unfinished ON requests (thread_id, opened) WHERE state IN ('pending', 'answered');
