-- wrk -s wrk.lua URL -- FILE...: each file is a whole HTTP request; they are sent in turn.
-- The last line that is printed is one JSON object, times in microseconds.

local requests = {}
local turn = 0

function init(args)
  for _, name in ipairs(args) do
    local file = assert(io.open(name, "rb"))
    requests[#requests + 1] = file:read("*a")
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"generator": "wrk", "requests": %d, "refused": %d, "broken": %d, "duration": %d, ' ..
    '"p50": %d, "p95": %d, "p99": %d}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
