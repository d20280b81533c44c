-- In the row that every commit locks: whoever commits learns in passing that what it remembers about members is old.
ALTER TABLE conversation
    ADD COLUMN access_version BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'rises with every change of who may do what';
