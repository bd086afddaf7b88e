-- One heartbeat: who is alive, and the secret that all gateways share.
-- KEYS: nodes secret resets. ARGV: id life candidate
-- Answer: gateways alive, secret, resets so far
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1000000 + t[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], 3600000)
if ARGV[3] ~= '' then
	redis.call('SET', KEYS[2], ARGV[3], 'NX')
end
return {redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[2]) or '', tonumber(redis.call('GET', KEYS[3]) or 0)}
