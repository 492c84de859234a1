-- Claims an idempotency key, and publishes under it.
-- KEYS: the key. ARGV: the event's id, the milliseconds for which a claim holds, and to publish with it: a payload, and channels.
-- Answers whether it was claimed before, the id under which it was, and the listeners on each channel.
local known = redis.call('GET', KEYS[1])
if known then
    return {1, known, {}}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local listeners = {}
for i = 4, #ARGV do
    listeners[i - 3] = redis.call('PUBLISH', ARGV[i], ARGV[3])
end
return {0, '', listeners}
