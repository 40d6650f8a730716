-- How often in a row wrong codes have locked it since the last right one; none, if they have not.
ALTER TABLE two_factor ADD COLUMN locks BIGINT CHECK (locks > 0);
