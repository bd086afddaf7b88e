-- Puts a state into force, unless the one it was made of is no longer there.
-- KEYS: state windows. ARGV: node and fence of the one that decides (both empty:
-- an operator's order), Seq that it was made of, Seq, revision and text of the
-- new state, second before which windows are taken into account.
-- Answer: 1, or 0 where nothing was written.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local s = redis.call('HMGET', KEYS[1], 'seq', 'revision', 'fence', 'holder', 'until')
if (s[1] or '0') ~= ARGV[3] then
	return 0
end
if ARGV[1] ~= '' and (s[4] ~= ARGV[1] or s[3] ~= ARGV[2] or tonumber(s[5] or 0) <= now) then
	return 0
end
redis.call('HSET', KEYS[1], 'seq', ARGV[4], 'revision', ARGV[5], 'state', ARGV[6])
if (s[2] or '0') ~= ARGV[5] then
	redis.call('DEL', KEYS[2])
elseif ARGV[1] ~= '' then
	for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
		if tonumber(string.match(name, '^%d+')) < tonumber(ARGV[7]) then
			redis.call('HDEL', KEYS[2], name)
		end
	end
end
return 1
