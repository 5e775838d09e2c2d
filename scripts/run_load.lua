-- run_load.lua - what `make run` has redis do. KEYS: none. ARGV[1]: which step.
--   fill    400,000 values of 40 to 400 bytes, and 20,000 hashes of ten fields
--   delete  nine in ten of them
--   refill  200,000 values of another size
local step = ARGV[1]
math.randomseed(7)
local text = string.rep('x', 1000)
if step == 'fill' then
    for i = 1, 400000 do
        redis.call('set', 'value:' .. i, string.sub(text, 1, math.random(40, 400)))
    end
    for i = 1, 20000 do
        local fields = {}
        for f = 1, 10 do
            fields[2 * f - 1] = 'field:' .. f
            fields[2 * f] = string.sub(text, 1, math.random(10, 100))
        end
        redis.call('hset', 'hash:' .. i, unpack(fields))
    end
elseif step == 'delete' then
    for i = 1, 400000 do
        if i % 10 ~= 0 then redis.call('del', 'value:' .. i) end
    end
    for i = 1, 20000 do
        if i % 10 ~= 0 then redis.call('del', 'hash:' .. i) end
    end
elseif step == 'refill' then
    for i = 1, 200000 do
        redis.call('set', 'other:' .. i, string.sub(text, 1, 600))
    end
end
return redis.call('dbsize')
