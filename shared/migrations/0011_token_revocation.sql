-- Tokens of a user that were issued up to not_before_ms are good no more. Read by changed_at, in steps, by every gateway.
CREATE TABLE token_revocation (
    user_id VARCHAR(64) NOT NULL,
    not_before_ms BIGINT NOT NULL COMMENT 'ms since 1970, by the clock of the gateway that revoked',
    changed_at BIGINT NOT NULL COMMENT 'ms since 1970, by the clock of the database',
    PRIMARY KEY (user_id),
    KEY by_change (changed_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
