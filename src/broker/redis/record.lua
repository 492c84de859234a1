-- Adds what a node has numbered in one room to the room's stream, and to the record of what is whole.
-- KEYS: stream, record. ARGV: size, ttl in ms, since, until, written, birth, then id, channel, index and payload of each entry,
-- in order. The record's fields: nothing is missing after `start`, up to `until`, but for what is at or below `trimmed`;
-- `newest` is the latest place since when a node that writes has written all; `top` is the last entry's id; `birth` tells it from one that was
-- lost before. Answers added, duplicates, lost, the record's birth, and since when the node's claim holds.
local stream, record = KEYS[1], KEYS[2]
local size, ttl, since, reached = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local written, birth = ARGV[5], ARGV[6]

-- Past so many entries what comes late is given up: moving them would keep Redis from all else for too long.
local LONGEST = 10000

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

-- An entry that the record knows of is gone: evicted, deleted or lost in a failover. Whoever resumes must hear of it.
local fields = redis.call('HMGET', record, 'start', 'until', 'newest', 'trimmed', 'top', 'birth')
local last, top = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1), '0-0'
if last[1] then top = last[1][1] end
local trimmed = fields[4] or '0-0'
if fields[5] and less(top, fields[5]) then trimmed = later(trimmed, fields[5]) end

-- What the node has written before counts only where it is still known of: the record may be another one, or an older state.
local claimed = since
if not fields[6] or fields[6] ~= birth or less(fields[2], written) then claimed = written end
local start, known_until, newest = fields[1] or claimed, fields[2] or claimed, later(fields[3] or top, claimed)
birth = fields[6] or table.concat(redis.call('TIME'), '-')

local added, duplicates, lost = 0, 0, 0
local late = {}
for i = 7, #ARGV, 4 do
  local id = ARGV[i]
  local fields = {'c', ARGV[i + 1], 'i', ARGV[i + 2], 'p', ARGV[i + 3]}
  local answer = redis.pcall('XADD', stream, id, unpack(fields))
  if type(answer) ~= 'table' then
    added, top = added + 1, id
  elseif not string.find(answer.err, 'equal or smaller', 1, true) then
    return answer
  elseif not less(trimmed, id) or less(newest, id) or redis.call('XRANGE', stream, id, id)[1] then
    -- Whoever wrote past it had counted since before it, and so has written it too.
    duplicates = duplicates + 1
  else
    late[#late + 1] = {id, fields}
  end
end

-- A node that began later was faster. A stream takes nothing in front of its last entry, so it is laid out anew.
if late[1] then
  local kept = redis.call('XLEN', stream) <= LONGEST and redis.call('XRANGE', stream, '-', '+')
  if kept and type(redis.pcall('DEL', stream)) == 'number' then
    local place = 1
    local function add_late(before)
      while late[place] and (not before or less(late[place][1], before)) do
        redis.call('XADD', stream, late[place][1], unpack(late[place][2]))
        place = place + 1
      end
    end
    for _, entry in ipairs(kept) do
      add_late(entry[1])
      redis.call('XADD', stream, entry[1], unpack(entry[2]))
    end
    add_late()
    added, top = added + #late, later(top, late[#late][1])
  else
    lost, trimmed = #late, later(trimmed, late[#late][1])
  end
end

if less(known_until, claimed) then
  start, known_until = claimed, reached
elseif not less(reached, start) then
  if less(claimed, start) then start = claimed end
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

redis.call('HSET', record, 'start', start, 'until', known_until, 'newest', newest, 'trimmed', trimmed, 'top', top,
  'birth', birth)
redis.call('PEXPIRE', record, ttl + 60000)
redis.call('PEXPIRE', stream, ttl + 60000)
return {added, duplicates, lost, birth, claimed}
