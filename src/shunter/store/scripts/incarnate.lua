-- incarnate: a new incarnation for a node; a script, so that a data set that is not its cluster's gives out none.
-- KEYS: 1 meta hash
-- ARGV: 1 how many
-- Answer: the last of them.

return redis.call('HINCRBY', KEYS[1], 'last_incarnation', ARGV[1])
