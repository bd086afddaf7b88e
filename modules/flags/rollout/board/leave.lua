-- Gives the lease up. KEYS: state. ARGV: node.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
	redis.call('HSET', KEYS[1], 'holder', '', 'until', 0)
end
return 1
