-- The file that is shown for a user; empty: none.
ALTER TABLE user_profile
    ADD COLUMN avatar CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '';
