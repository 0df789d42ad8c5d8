# For each line on standard input: what raindrops counts, and what it reads at the socket of the daemon.
require 'json'
require 'raindrops'
socket, tcp, unix = ARGV
$stdout.sync = true
theirs = lambda {
  counted = Raindrops::Linux.tcp_listener_stats([tcp])
  counted.merge!(Raindrops::Linux.unix_listener_stats([unix]))
  counted.to_a.flat_map { |name, it|
    [["#{name} active", it.active], ["#{name} queued", it.queued]]
  }.to_h
}
ours = lambda {
  IO.popen(["curl", "-s", "--unix-socket", socket, "http://localhost/_raindrops"], &:read)
    .each_line(chomp: true)
    .map { |line| line =~ /^(.+) (active|queued): (\d+)$/ and ["#{$1} #{$2}", $3.to_i] }
    .compact.to_h.slice(*[tcp, unix].product(%w[active queued]).map { |it| it.join(" ") })
}
$stdin.each_line { puts JSON.generate([theirs.call, ours.call, theirs.call]) }
