-- Prepended to every script that a process of a cluster runs: its last key is the cluster's meta hash, its last argument the
-- identity of the data set that the process belongs to. On any other data set nothing is done, and the error says whose it is.
-- What follows sees neither.

local identity = redis.call('HGET', KEYS[#KEYS], 'identity') or ''
if identity ~= ARGV[#ARGV] then return redis.error_reply('FOREIGN ' .. identity) end
table.remove(KEYS)
table.remove(ARGV)

