-- Accounts below the version of the gateway have no keys in user_look_alike yet.
ALTER TABLE user_account
    ADD COLUMN look_alike_version SMALLINT UNSIGNED NOT NULL DEFAULT 0,
    ADD KEY look_alike_version (look_alike_version);
