-- One look of a node: what it has seen goes into the window of this second, and
-- it takes or keeps the lease if nobody else holds it.
-- KEYS: state windows. ARGV: node, lease in ms, Seq and revision that it knows,
-- then names of counters and how many.
-- Answer: 'behind', or milliseconds, fence (0: another decides), state, then the
-- counters of the windows that are closed.
local t = redis.call('TIME')
local second = tonumber(t[1])
local now = second * 1000 + math.floor(tonumber(t[2]) / 1000)
local s = redis.call('HMGET', KEYS[1], 'seq', 'revision', 'fence', 'holder', 'until', 'state')
if tonumber(s[1] or 0) < tonumber(ARGV[3]) then
	return {'behind'}
end
if (s[2] or '0') == ARGV[4] then
	for i = 5, #ARGV, 2 do
		redis.call('HINCRBY', KEYS[2], second .. ':' .. ARGV[i], ARGV[i + 1])
	end
	redis.call('PEXPIRE', KEYS[2], 60000)
end
local fence, holder, free = tonumber(s[3] or 0), s[4], tonumber(s[5] or 0) <= now
local answer = {now, 0, s[6] or ''}
if holder == ARGV[1] and not free or free then
	if holder ~= ARGV[1] then
		fence = fence + 1
	end
	redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', now + tonumber(ARGV[2]), 'fence', fence)
	answer[2] = fence
	-- What nobody could take into account for long is not worth its room.
	if redis.call('HLEN', KEYS[2]) > 20000 then
		redis.call('DEL', KEYS[2])
	end
	local counts = redis.call('HGETALL', KEYS[2])
	for i = 1, #counts, 2 do
		if tonumber(string.match(counts[i], '^%d+')) < second then
			answer[#answer + 1] = counts[i]
			answer[#answer + 1] = counts[i + 1]
		end
	end
end
-- A rollout that no node knows any more is forgotten after a quarter of a year.
redis.call('PEXPIRE', KEYS[1], 7776000000)
return answer
