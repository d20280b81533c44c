-- The shards of the change feed. A transaction that adds a row to a shard raises its head, and holds the lock of this row
-- until it has ended: so positions have no gaps, and a row that can be seen has all rows before it.
CREATE TABLE feed_shard (
    shard SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    head BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the position of the newest row'
) ENGINE = InnoDB;
