# frozen_string_literal: true

require_relative "../raindrops_slab"

# Rack middleware that counts as Raindrops::Middleware does, takes the same options and answers
# `/_raindrops` with the same text. What it does not do is keep the `calling` and `writing` of a worker
# that was killed. It counts `requests` too, which the text does not have.
#
#   # In the server's configuration, so that it is made before the server forks:
#   require "raindrops_slab/middleware"
#   $stats = RaindropsSlab::Middleware::Stats.new(slots: 32)
#   # In config.ru:
#   use RaindropsSlab::Middleware, stats: $stats
#
# Lines about listeners need the raindrops library, as they do there.
class RaindropsSlab::Middleware
  FIELDS = { calling: :gauge, writing: :gauge, requests: :counter }.freeze

  # As Raindrops::Middleware::Stats, in a slab. `slots` is how many workers there may be at one time.
  class Stats
    attr_reader :slab, :slot

    # With a path the slab is a file that `raindrops` finds; see docs/slabs.md. `slab` is one that
    # has the three fields and others.
    def initialize(slots: 256, path: nil, name: "rack", slab: nil)
      @slab = slab || RaindropsSlab.create(name: name, slots: slots, fields: FIELDS, path: path)
      @slot = @slab.slot
    end

    FIELDS.each do |name, kind|
      define_method(name) { @slab.totals.fetch(name) }
      define_method(:"incr_#{name}") { @slot.incr(name) }
      define_method(:"decr_#{name}") { @slot.decr(name) } if kind == :gauge
    end

    def to_hash
      @slab.totals.slice(*FIELDS.keys)
    end
  end

  # What an application has answered, until it is closed.
  class Proxy
    def initialize(body, writing)
      @body = body
      @writing = writing
      @held = writing.hold
    end

    def each(&block)
      @body.each(&block)
    end

    def close
      held, @held = @held, nil
      held and @writing.give_back(held)
      @body.close if @body.respond_to?(:close)
    end

    def to_path
      @body.to_path
    end

    def respond_to?(method, include_all = false)
      method.to_sym == :close || @body.respond_to?(method, include_all)
    end

    def method_missing(...)
      @body.__send__(...)
    end
  end

  attr_accessor :app, :stats, :path, :tcp, :unix

  def initialize(app, opts = {})
    @app = app
    @stats = opts[:stats] || Stats.new
    @calling, @writing, @requests = FIELDS.keys.map { |name| @stats.slot[name] }
    @path = opts[:path] || "/_raindrops"
    listeners = opts[:listeners]
    if listeners.nil? && defined?(Unicorn) && Unicorn.respond_to?(:listener_names)
      listeners = Unicorn.listener_names
    end
    @tcp = @unix = nil
    return unless listeners

    @tcp = listeners.grep(/\A.+:\d+\z/)
    @unix = listeners.grep(%r{\A/})
    @tcp = nil if @tcp.empty?
    @unix = nil if @unix.empty?
  end

  def call(env)
    env["PATH_INFO"] == @path and return stats_response

    begin
      held = @calling.hold
      @requests.incr
      status, headers, body = @app.call(env)
      [status, headers, Proxy.new(body, @writing)]
    ensure
      held and @calling.give_back(held)
    end
  end

  private

  def stats_response
    totals = @stats.to_hash
    body = +"calling: #{totals[:calling]}\nwriting: #{totals[:writing]}\n"
    listener_stats.each do |address, stats|
      body << "#{address} active: #{stats.active}\n#{address} queued: #{stats.queued}\n"
    end
    [200, { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s }, [body]]
  end

  def listener_stats
    (@tcp || @unix) && linux or return []

    [*(Raindrops::Linux.tcp_listener_stats(@tcp) if @tcp),
     *(Raindrops::Linux.unix_listener_stats(@unix) if @unix)]
  end

  # Whether the raindrops library is there.
  def linux
    require "raindrops"
    defined?(Raindrops::Linux.tcp_listener_stats)
  rescue LoadError
    false
  end
end
