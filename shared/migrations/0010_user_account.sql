-- Built-in accounts. A user who only ever comes with tokens of someone else has none.
CREATE TABLE user_account (
    user_id VARCHAR(64) NOT NULL,
    password_hash VARCHAR(255) NOT NULL COMMENT 'PHC text: algorithm, its cost, salt and hash',
    nickname VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
