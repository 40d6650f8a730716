-- What lists are asked for by: without these a rare one walks all of a site's tokens, or all of the log.
CREATE INDEX tokens_user ON tokens (site_id, user_id, token_id);
CREATE INDEX tokens_revoked ON tokens (site_id, token_id) WHERE revoked_at IS NOT NULL;
CREATE INDEX audit_log_event ON audit_log (event, audit_id);
