-- What users show of themselves; a user without a row has the nickname of its account, or its id.
CREATE TABLE user_profile (
    user_id VARCHAR(64) NOT NULL,
    nickname VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'empty: none is set, and the user id is shown',
    meta VARCHAR(2048) NOT NULL DEFAULT '' COMMENT 'a JSON object, as it was sent; empty: none is set',
    updated_at BIGINT NOT NULL COMMENT 'ms since 1970; higher with each change',
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
