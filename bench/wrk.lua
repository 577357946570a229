-- Plays the requests of a file over wrk's connections, in order, round and round or just once, and prints one line of JSON.
-- Arguments: FILE once|cycle count|trust
local ffi = require("ffi")
ffi.cdef("int kill(int pid, int sig); int getpid(void);")

local threads = {}
local requests, position, once = {}, 0, false
statuses = {}
exhausted = false

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for line in file:lines() do
    requests[#requests + 1] = file:read(tonumber(line))
    file:read(1)
  end
  file:close()
  once = args[2] == "once"
  -- The callback costs a copy of each body, so only writes, whose bodies are small, have their statuses counted.
  if args[3] == "count" then
    response = function(status)
      local key = "s" .. status
      statuses[key] = (statuses[key] or 0) + 1
    end
  end
end

function request()
  position = position + 1
  if position > #requests then
    if once then
      -- Every request was sent: end the run here. The signal wakes wrk's main thread, which takes the time.
      if not exhausted then
        exhausted = true
        ffi.C.kill(ffi.C.getpid(), 2)
        wrk.thread:stop()
      end
      return requests[#requests]
    end
    position = 1
  end
  return requests[position]
end

function done(summary, latency)
  local counted, used_up = {}, false
  for _, thread in ipairs(threads) do
    for key, count in pairs(thread:get("statuses")) do
      counted[key] = (counted[key] or 0) + count
    end
    used_up = used_up or thread:get("exhausted")
  end
  local parts = {}
  for key, count in pairs(counted) do
    parts[#parts + 1] = string.format('"%s": %d', string.sub(key, 2), count)
  end
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "bytes": %d, "p50": %.3f, "p95": %.3f, "p99": %.3f, "worst": %.3f, '
      .. '"failures": %d, "refused": %d, "exhausted": %s, "statuses": {%s}}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors.connect + errors.read + errors.write + errors.timeout,
    errors.status, tostring(used_up), table.concat(parts, ", ")))
end
