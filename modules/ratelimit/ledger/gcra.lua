-- One bucket, as package gcra computes it. Forced debits and refunds first,
-- then as many of `count` requests of one cost as fit.
-- KEYS: bucket. ARGV: the doubles every depth cost count forced age since hint floor grace
-- Answer: the doubles admitted, wait of the next one, TAT, now; microseconds since 1.7e9.
--
-- The value, in doubles: TAT │ From To │ From To │ … up to six gaps, the newest
-- first. Releases before gaps read and write the TAT alone.
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1000000 + t[2]
local every, depth, cost, count, forced, age, since, hint, floor, grace = struct.unpack('<dddddddddd', ARGV[1])

local raw = redis.call('GET', KEYS[1])
local tat, gaps = 0, ''
if raw then
	tat, gaps = struct.unpack('<d', raw), string.sub(raw, 9)
else
	-- A bucket that is gone is restored from what the caller saw last.
	tat = math.min(hint, now + depth)
end
if floor > tat then
	tat, gaps = math.max(tat, math.min(floor, now + depth)), ''
end
local before, known = tat, gaps

if forced > 0 then
	-- What was admitted elsewhere counts from then: `age` by the gateway's own
	-- measure before it sent, `since` by its estimate of this clock, which knows
	-- the way as well and is believed for a quarter of a second.
	local at, work = now - math.max(age, math.min(now - since, age + 250000)), every * forced
	local newest = 0
	if gaps ~= '' then newest = struct.unpack('<d', gaps, 9) end
	if at < newest then at = math.max(at, now - 1000000) end
	if at > tat then
		gaps, tat = struct.pack('<dd', tat, at) .. string.sub(gaps, 1, 80), at + work
	elseif at >= newest then
		tat = tat + work
	else
		local kept = ''
		for i = #gaps - 15, 1, -16 do
			local from, to = struct.unpack('<dd', gaps, i)
			if work == 0 or to <= at then
				kept = string.sub(gaps, i, i + 15) .. kept
			else
				local begin = math.max(from, at)
				local finish = begin + work
				if begin > from then kept = struct.pack('<dd', from, begin) .. kept end
				if finish < to then kept = struct.pack('<dd', finish, to) .. kept end
				work = math.max(finish - to, 0)
			end
		end
		gaps, tat = string.sub(kept, 1, 96), tat + work
	end
elseif forced < 0 then
	tat = tat + every * forced
	if gaps ~= '' and tat < struct.unpack('<d', gaps, 9) then gaps = '' end
end

local base = math.max(tat, now)
local admitted = 0
if count > 0 and cost > 0 then
	local room = depth + grace - (base - now)
	if room >= 0 then
		admitted = math.min(count, math.floor(room / (every * cost)))
	end
	if admitted > 0 then
		if now > tat then gaps = struct.pack('<dd', tat, now) .. string.sub(gaps, 1, 80) end
		tat = base + every * (cost * admitted)
		base = tat
	end
end

if tat < before and raw then
	-- The key stays as long as it would have: while it is there no hint counts.
	redis.call('SET', KEYS[1], struct.pack('<d', tat) .. gaps, 'KEEPTTL')
elseif (tat > before or gaps ~= known) and tat + 1000000 > now then
	redis.call('SET', KEYS[1], struct.pack('<d', tat) .. gaps, 'PX', math.ceil((tat - now) / 1000) + 1001)
end

return struct.pack('<dddd', admitted, math.ceil(base + every * cost - depth - now), math.ceil(base), now)
