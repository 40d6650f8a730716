-- The account that a site belongs to; none for what the command line made.
ALTER TABLE sites ADD COLUMN owner_id UUID REFERENCES accounts (account_id) ON DELETE SET NULL;
CREATE INDEX sites_owner ON sites (owner_id, site_id);
