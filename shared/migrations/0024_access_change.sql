-- Which conversations had their access changed lately: every gateway reads it each second, in case an event was lost.
CREATE TABLE access_change (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    conversation_id VARCHAR(160) NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    changed_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
