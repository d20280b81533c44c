-- Endpoints of apps that are told what the change feed has. How far each is: feed_reader, under the name webhook_<id>.
CREATE TABLE webhook_endpoint (
    id CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    url VARCHAR(2048) NOT NULL,
    secret VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    old_secret VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'signs too, until old_secret_until',
    old_secret_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    event_types VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'with blanks between them; empty: all',
    conversations VARCHAR(4096) NOT NULL COMMENT 'private, or what ids of groups begin with, with blanks between them; empty: all',
    batch_events INT UNSIGNED NOT NULL COMMENT 'events of one call, at most',
    batch_bytes INT UNSIGNED NOT NULL COMMENT 'bytes of the events of one call, at most',
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    updated_at BIGINT NOT NULL COMMENT 'ms since 1970; higher with each change'
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
