-- A record grows by more than half when it is bound. With less room on its page than that, every
-- second binding went to another one, and into every index.
ALTER TABLE tokens SET (fillfactor = 60);
