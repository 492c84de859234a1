-- Adds what a node has numbered in one room to the room's stream, and to the record of what is whole.
-- KEYS: stream, record. ARGV: size, ttl in ms, since, until, then id, channel, index and payload of each entry, in order.
-- The record's fields: nothing is missing after `start`, up to `until`, but for what is at or below `trimmed`; `newest` is the
-- latest `since` of a node that has written; `top` is the last entry's id. Answers added, duplicates, lost.
local stream, record = KEYS[1], KEYS[2]
local size, ttl, since, reached = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]

local function less(a, b)
  local a_ms, a_count = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_count = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_count) < tonumber(b_count)
end
local function later(a, b)
  if less(a, b) then return b end
  return a
end

local fields = redis.call('HMGET', record, 'start', 'until', 'newest', 'trimmed', 'top')
local start, known_until, trimmed = fields[1] or since, fields[2] or since, fields[4] or '0-0'
local newest, top = later(fields[3] or since, since), '0-0'

-- An entry that the record knows of is gone: evicted, deleted or lost in a failover. Whoever resumes must hear of it.
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if last[1] then top = last[1][1] end
if fields[5] and less(top, fields[5]) then trimmed = later(trimmed, fields[5]) end

local added, duplicates, lost = 0, 0, 0
for i = 5, #ARGV, 4 do
  local id = ARGV[i]
  local answer = redis.pcall('XADD', stream, id, 'c', ARGV[i + 1], 'i', ARGV[i + 2], 'p', ARGV[i + 3])
  if type(answer) ~= 'table' then
    added, top = added + 1, id
  elseif not string.find(answer.err, 'equal or smaller', 1, true) then
    return answer
  elseif not less(trimmed, id) or less(newest, id) or redis.call('XRANGE', stream, id, id)[1] then
    -- Whoever wrote past it had counted since before it, and so has written it too.
    duplicates = duplicates + 1
  else
    lost, trimmed = lost + 1, id
  end
end

if less(known_until, since) then
  start, known_until = since, reached
elseif not less(reached, start) then
  if less(since, start) then start = since end
  known_until = later(known_until, reached)
end

local excess = redis.call('XLEN', stream) - size
if excess > 0 then
  local gone = redis.call('XRANGE', stream, '-', '+', 'COUNT', excess)
  trimmed = later(trimmed, gone[#gone][1])
  redis.call('XTRIM', stream, 'MAXLEN', size)
end
-- An entry may be younger than the marker in its id by the second between two of them.
local oldest = string.format('%.0f', math.max(0, tonumber(string.match(known_until, '^%d+')) - ttl - 1000)) .. '-0'
local expired = redis.call('XREVRANGE', stream, '(' .. oldest, '-', 'COUNT', 1)
if expired[1] then
  trimmed = later(trimmed, expired[1][1])
  redis.call('XTRIM', stream, 'MINID', oldest)
end

redis.call('HSET', record, 'start', start, 'until', known_until, 'newest', newest, 'trimmed', trimmed, 'top', top)
redis.call('PEXPIRE', record, ttl + 60000)
redis.call('PEXPIRE', stream, ttl + 60000)
return {added, duplicates, lost}
