# Each line on standard input is one reading; the answer is how many listeners were read and how
# long it took, in nanoseconds.
require "raindrops"

addresses = ARGV.empty? ? nil : ARGV
$stdout.sync = true
puts "READY #{Gem::Specification.find_by_name("raindrops").version}"
while $stdin.gets
  began = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  stats = Raindrops::Linux.tcp_listener_stats(addresses)
  took = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - began
  puts "#{stats.size} #{took}"
end
