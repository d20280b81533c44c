-- Devices that take notifications. A device belongs to the user who registered it last: its endpoint or token is there once.
CREATE TABLE push_subscription (
    id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    user_id VARCHAR(64) NOT NULL,
    device_id VARCHAR(64) NULL,
    kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'webpush, fcm or apns',
    target VARCHAR(4096) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the endpoint or the token',
    target_hash BINARY(32) NOT NULL COMMENT 'SHA-256 of kind and target',
    p256dh VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'of Web Push: the public key of the device',
    auth VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'of Web Push: the secret of the device',
    vapid_key VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'of Web Push: the public key that it subscribed with',
    topic VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'of APNs: the bundle id',
    is_sandbox BOOLEAN NULL COMMENT 'of APNs: the token is of the sandbox',
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    accepted_at BIGINT NULL COMMENT 'ms since 1970: when its push service last took a notification',
    retry_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970: nothing is sent before',
    failures INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'since the last notification that was taken',
    UNIQUE KEY by_target (target_hash),
    KEY by_user (user_id, created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
