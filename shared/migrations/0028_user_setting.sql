-- What users have set for themselves; a user without a row has the defaults.
CREATE TABLE user_setting (
    user_id VARCHAR(64) NOT NULL,
    group_adds TINYINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'who may add the user to groups: 0 everyone, 1 contacts, 2 nobody',
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
