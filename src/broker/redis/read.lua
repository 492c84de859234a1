-- What a room's stream holds after a position, and what is known to be whole. KEYS: stream, record. ARGV: after, size.
-- Answers start, until, trimmed, top and birth (empty where nobody records), then the stream's last id, then the entries, newest
-- first.
local fields = redis.call('HMGET', KEYS[2], 'start', 'until', 'trimmed', 'top', 'birth')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local entries = redis.call('XREVRANGE', KEYS[1], '+', '(' .. ARGV[1], 'COUNT', ARGV[2])
return {fields[1] or '', fields[2] or '', fields[3] or '', fields[4] or '', fields[5] or '', last[1] and last[1][1] or '', entries}
