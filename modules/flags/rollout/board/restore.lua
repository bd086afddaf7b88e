-- Gives Redis back what it has lost, by restart or failover.
-- KEYS: state windows. ARGV: Seq, revision, fence and text of the state.
if tonumber(redis.call('HGET', KEYS[1], 'seq') or 0) < tonumber(ARGV[1]) then
	local fence = math.max(tonumber(redis.call('HGET', KEYS[1], 'fence') or 0), tonumber(ARGV[3])) + 1
	redis.call('HSET', KEYS[1], 'seq', ARGV[1], 'revision', ARGV[2], 'state', ARGV[4], 'fence', fence, 'holder', '', 'until', 0)
	redis.call('DEL', KEYS[2])
end
return 1
