# Counting in Ruby: count.rb field|slot SLAB, count.rb raindrops FILE
#
# Prints READY; each line on standard input is a number of increments, and the answer is what one of
# them took, in nanoseconds, with the loop around it.
way, path = ARGV
$stdout.sync = true
now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) }
case way
when "field"
  require "raindrops_slab"
  requests = RaindropsSlab.open(path).claim[:requests]
  count = lambda do |increments|
    n = 0
    while n < increments
      requests.incr
      n += 1
    end
  end
when "slot"
  require "raindrops_slab"
  slot = RaindropsSlab.open(path).claim
  count = lambda do |increments|
    n = 0
    while n < increments
      slot.incr(:requests)
      n += 1
    end
  end
else
  require "raindrops"
  raindrops = Raindrops.new(1, io: File.open(path, "r+"))
  count = lambda do |increments|
    n = 0
    while n < increments
      raindrops.incr(0)
      n += 1
    end
  end
end
puts "READY"
while (line = $stdin.gets)
  increments = line.to_i
  began = now.call
  count.call(increments)
  puts((now.call - began) / increments.to_f)
end
