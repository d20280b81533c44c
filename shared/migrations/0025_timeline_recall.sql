ALTER TABLE timeline_message
    ADD COLUMN stored_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970, by the worker''s clock; 0 for old rows',
    ADD COLUMN is_recalled BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'its content is blanked';
