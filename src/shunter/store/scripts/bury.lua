-- bury: the leader deletes the queues of node incarnations that are no more.
-- KEYS: 1 leader hash, 2 incarnations hash, 3 queues set, 4.. the queues' keys
-- ARGV: 1 epoch, 2 token, then for each queue its member of the set: node, space, incarnation
-- Answer: how many were deleted, -1 if the caller no longer leads. The queue of a node's present incarnation stays.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return -1 end
local dead = {}
for n = 3, #ARGV do
  local node, incarnation = string.match(ARGV[n], '^(%S+) (%S+)$')
  local current = redis.call('HGET', KEYS[2], node)
  if not current or string.match(current, '^(%S+) ') ~= incarnation then dead[#dead + 1] = n end
end
for _, n in ipairs(dead) do
  redis.call('DEL', KEYS[n + 1])
  redis.call('SREM', KEYS[3], ARGV[n])
end
return #dead
