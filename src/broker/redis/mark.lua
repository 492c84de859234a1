-- Publishes a marker of the clock with Redis' own time in it, as one step: whatever is published before it has the time before.
-- ARGV: channel, the marker's head, its tail, the key of the last time. Markers of all nodes only grow, also where Redis' clock
-- is set back. Where the key can't be written (a full or read-only Redis) the marker goes out all the same: it proves the
-- subscription. The key is no KEYS entry because an ACL without it would refuse the whole script. On a cluster there is none,
-- because no key is of a process: there the fifth argument is a time that all markers of the sender must be past.
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[5]) >= ms then ms = tonumber(ARGV[5]) + 1 end
local last = ARGV[4] ~= '' and redis.pcall('GET', ARGV[4])
if type(last) == 'string' and tonumber(last) >= ms then ms = tonumber(last) + 1 end
local text = string.format('%.0f', ms)
if ARGV[4] ~= '' then redis.pcall('SET', ARGV[4], text, 'EX', 86400) end
return redis.call('PUBLISH', ARGV[1], ARGV[2] .. ':' .. text .. ARGV[3])
