CREATE TABLE user_upload_quota (
    user_id VARCHAR(64) NOT NULL,
    day INT UNSIGNED NOT NULL COMMENT 'days since 1970, UTC: the counts are of this day',
    uploads INT UNSIGNED NOT NULL DEFAULT 0,
    bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT 'what a user uploaded today';
