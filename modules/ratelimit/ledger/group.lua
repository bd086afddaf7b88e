-- Several limits of one caller: all are charged or none.
-- KEYS: one per item. ARGV: one per item, its kind, nine doubles and a text,
--   kind a b cost count forced x y z grace member
--   g  token bucket    a every, b depth, y hint, z floor (see gcra.lua)
--   l  sliding log     a limit, b window
--   c  calendar count  a limit, b start, x end, y next end
--   s  leases          a limit, b life; forced 1 keeps the member, -1 ends it
-- One item may stand for `count` requests; several items stand for one request.
-- Answer, as doubles: now, admitted, then for each item the wait of one request
-- more and the TAT (g) or what is used (l c s); microseconds since 1.7e9.
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1000000 + t[2]

local function push(key, stamp, n)
	while n > 0 do
		local some, batch = math.min(n, 1000), {}
		for i = 1, some do batch[i] = stamp end
		redis.call('LPUSH', key, unpack(batch))
		n = n - some
	end
end

local kinds = {}

kinds.g = function(key, p)
	local every, depth, grace = p.a, p.b, p.grace
	local raw = redis.call('GET', key)
	local tat, gaps = math.min(p.y, now + depth), ''
	if raw then
		tat, gaps = struct.unpack('<d', raw), string.sub(raw, 9)
	end
	if p.z > tat then
		tat, gaps = math.max(tat, math.min(p.z, now + depth)), ''
	end
	local before = tat
	local self = {}
	function self.fits()
		local base = math.max(tat, now)
		local room = depth + grace - (base - now)
		if p.cost <= 0 then return p.count end
		if room < 0 then return 0 end
		return math.min(p.count, math.floor(room / (every * p.cost)))
	end
	function self.commit(n)
		if n > 0 and p.cost > 0 then
			if now > tat then
				gaps = struct.pack('<dd', tat, now) .. string.sub(gaps, 1, 80)
				tat = now
			end
			tat = tat + every * (p.cost * n)
		end
		if tat > before then
			redis.call('SET', key, struct.pack('<d', tat) .. gaps, 'PX', math.ceil((tat - now) / 1000) + 1001)
		end
	end
	function self.state()
		return math.ceil(math.max(tat, now) + every * p.cost - depth - now), math.ceil(math.max(tat, now))
	end
	return self
end

kinds.l = function(key, p)
	local limit, window = p.a, p.b
	local oldest = redis.call('LINDEX', key, -1)
	while oldest and tonumber(oldest) <= now - window do
		local many = redis.call('LINDEX', key, -64)
		if many and tonumber(many) <= now - window then
			redis.call('RPOP', key, 64)
		else
			redis.call('RPOP', key)
		end
		oldest = redis.call('LINDEX', key, -1)
	end
	local used = redis.call('LLEN', key)
	local stamp = math.max(now, tonumber(redis.call('LINDEX', key, 0)) or 0)
	local function add(n)
		push(key, stamp, n)
		redis.call('PEXPIRE', key, math.ceil(window / 1000) + 1)
		used = used + n
	end
	if p.forced > 0 then
		add(math.min(p.forced, math.max(limit - used, 0)))
	elseif p.forced < 0 then
		for _ = 1, math.min(-p.forced, used) do redis.call('LPOP', key) end
		used = math.max(used + p.forced, 0)
	end
	local self = {}
	function self.fits()
		if p.cost <= 0 then return p.count end
		return math.max(math.min(p.count, math.floor((limit - used) / p.cost)), 0)
	end
	function self.commit(n)
		if n * p.cost > 0 then add(n * p.cost) end
	end
	function self.state()
		local over = used + p.cost - limit
		if over <= 0 or p.cost <= 0 then return 0, used end
		if p.cost > limit then return window, used end
		return tonumber(redis.call('LINDEX', key, -over)) + window - now, used
	end
	return self
end

kinds.c = function(key, p)
	local stop = p.y
	if now < p.b then stop = p.b elseif now < p.x then stop = p.x end
	local raw = redis.call('GET', key)
	local used = 0
	if raw then
		local last, count = string.match(raw, '^(%d+) (%d+)$')
		if tonumber(last) == stop then used = tonumber(count) end
	end
	local before = used
	used = math.max(used + p.forced, 0)
	local self = {}
	function self.fits()
		if p.cost <= 0 then return p.count end
		return math.max(math.min(p.count, math.floor((p.a - used) / p.cost)), 0)
	end
	function self.commit(n)
		used = used + n * p.cost
		if used ~= before then
			redis.call('SET', key, string.format('%.0f %.0f', stop, used), 'PX', math.ceil((stop - now) / 1000) + 1)
		end
	end
	function self.state()
		if p.cost <= 0 or used + p.cost <= p.a then return 0, used end
		return stop - now, used
	end
	return self
end

kinds.s = function(key, p)
	redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
	if p.forced < 0 then
		redis.call('ZREM', key, p.member)
	elseif p.forced > 0 then
		redis.call('ZADD', key, now + p.b, p.member)
		redis.call('PEXPIRE', key, math.ceil(p.b / 1000) + 1)
	end
	local used = redis.call('ZCARD', key)
	local self = {}
	function self.fits()
		if p.cost <= 0 or used < p.a then return p.count end
		return 0
	end
	function self.commit(n)
		if n > 0 and p.cost > 0 then
			redis.call('ZADD', key, now + p.b, p.member)
			redis.call('PEXPIRE', key, math.ceil(p.b / 1000) + 1)
			used = used + 1
		end
	end
	function self.state()
		-- Nobody knows when a lease ends; asking once a second is polite.
		if used < p.a or p.cost <= 0 then return 0, used end
		return 1000000, used
	end
	return self
end

local items = {}
local admitted = nil
for i = 1, #KEYS do
	local p, kind = {}, nil
	kind, p.a, p.b, p.cost, p.count, p.forced, p.x, p.y, p.z, p.grace = struct.unpack('<c1ddddddddd', ARGV[i])
	p.member = string.sub(ARGV[i], 74)
	items[i] = kinds[kind](KEYS[i], p)
	local fits = items[i].fits()
	admitted = math.min(admitted or fits, fits)
end
local answer = struct.pack('<dd', now, admitted)
for i = 1, #items do
	items[i].commit(admitted)
	answer = answer .. struct.pack('<dd', items[i].state())
end
return answer
