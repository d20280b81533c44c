CREATE TABLE user_quota (
    user_id VARCHAR(64) NOT NULL,
    day INT UNSIGNED NOT NULL COMMENT 'days since 1970, UTC: the counts are of this day',
    groups_made INT UNSIGNED NOT NULL DEFAULT 0,
    members_added INT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT 'what a user did today';
