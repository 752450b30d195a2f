-- identify: who this data set is; the first to ask gives it a name.
-- KEYS: 1 meta hash
-- ARGV: 1 the name that it gets if it has none
-- Answer: its name.

redis.call('HSETNX', KEYS[1], 'identity', ARGV[1])
return redis.call('HGET', KEYS[1], 'identity')
