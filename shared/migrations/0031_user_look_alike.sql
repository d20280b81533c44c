-- Which account has an id that looks like this. Of accounts that looked alike before, one.
CREATE TABLE user_look_alike (
    look_alike_key VARCHAR(255) NOT NULL COMMENT 'what ids that look alike have in common',
    user_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (look_alike_key),
    KEY keys_of (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
