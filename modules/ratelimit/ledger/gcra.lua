-- One bucket, as package gcra computes it. Forced debits and refunds first,
-- then as many of `count` requests of one cost as fit.
-- KEYS: bucket. ARGV: the doubles every depth cost count forced age since hint floor grace
-- Answer: the doubles admitted, wait of the next one, TAT, now; microseconds since 1.7e9.
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1000000 + t[2]
local every, depth, cost, count, forced, age, since, hint, floor, grace = struct.unpack('<dddddddddd', ARGV[1])

local raw = redis.call('GET', KEYS[1])
-- A bucket that is gone is restored from what the caller saw last.
local tat = raw and struct.unpack('<d', raw) or math.min(hint, now + depth)
if floor > tat then
	tat = math.max(tat, math.min(floor, now + depth))
end
local before = tat

if forced > 0 then
	-- What was admitted elsewhere counts from then: `age` by the gateway's own
	-- measure before it sent, `since` by its estimate of this clock, which knows
	-- the way as well and is believed for a quarter of a second.
	age = math.max(age, math.min(now - since, age + 250000))
	tat = math.max(tat, now - age) + every * forced
elseif forced < 0 then
	tat = tat + every * forced
end

local base = math.max(tat, now)
local admitted = 0
if count > 0 and cost > 0 then
	local room = depth + grace - (base - now)
	if room >= 0 then
		admitted = math.min(count, math.floor(room / (every * cost)))
	end
	if admitted > 0 then
		tat = base + every * (cost * admitted)
		base = tat
	end
end

if tat > before then
	if tat > now then
		redis.call('SET', KEYS[1], struct.pack('<d', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
	end
elseif tat < before and raw then
	-- The key stays as long as it would have: while it is there no hint counts.
	redis.call('SET', KEYS[1], struct.pack('<d', tat), 'KEEPTTL')
end

return struct.pack('<dddd', admitted, math.ceil(base + every * cost - depth - now), math.ceil(base), now)
