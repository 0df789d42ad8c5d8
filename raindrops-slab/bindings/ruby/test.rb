# frozen_string_literal: true

# RAINDROPS_SLAB_LIB=target/release/libraindrops_slab.so ruby raindrops-slab/bindings/ruby/test.rb

require "minitest/autorun"
require "tmpdir"
require_relative "raindrops_slab/middleware"

class RaindropsSlabTest < Minitest::Test
  FIELDS = {
    requests: :counter, bytes: [:counter, "bytes"], calling: :gauge, longest: [:max, "us"],
    answer: [:histogram, "us", 1_000_000]
  }.freeze

  def slab(slots: 4, path: nil)
    RaindropsSlab.create(name: "shop", slots: slots, fields: FIELDS, path: path)
  end

  # What a child's block returns, or what it raised.
  def child
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      result = begin
        yield
      rescue => error
        error.message
      end
      Marshal.dump(result, writer)
      writer.close
      exit!(0)
    end
    writer.close
    result = Marshal.load(reader.read)
    Process.wait(pid)
    result
  end

  def test_all_kinds_are_counted
    slab = slab()
    slot = slab.claim
    slot[:requests].incr
    slot.incr(:bytes, 1 << 40)
    slot.incr(:calling, 3)
    slot.decr(:calling)
    slot.decr(:calling, 5)
    slot.raise_max(:longest, 70)
    slot.raise_max(:longest, 50)
    slot.record(:answer, 5)
    slot.record(:answer, 2_000_000)
    assert_equal({ requests: 1, bytes: 1 << 40, calling: -3, longest: 70,
                   answer: RaindropsSlab::Histogram.new(2_000_005, { (5..5) => 1, (1_048_576..) => 1 }) },
                 slab.totals)
    assert_equal [2, 5..5, 1_048_576..], [slab.totals[:answer].count,
                                         *[0.5, 1].map { |rank| slab.totals[:answer].quantile(rank) }]
    slot.set(:calling, 7)
    assert_equal 7, slab.totals[:calling]
    slot.release
    assert_equal [1, 0, 70], slab.totals.values_at(:requests, :calling, :longest)
  end

  def test_threads_lose_nothing
    slab = slab()
    slot = slab.slot
    4.times.map { Thread.new { 50_000.times { slot.incr(:requests); slot.record(:answer, 3) } } }.each(&:join)
    assert_equal [200_000, 200_000, 600_000],
                 [slab.totals[:requests], slab.totals[:answer].count, slab.totals[:answer].sum]
    assert_equal 0, slot.index
  end

  def test_a_child_claims_a_slot_of_its_own
    slab = slab()
    slab.slot.incr(:requests)
    slab.slot.set(:calling, 1)
    of_child = child do
      before = slab.slot.claimed?
      slab.slot.incr(:requests)
      slab.slot.incr(:calling)
      [before, slab.slot.index, slab.totals.values_at(:requests, :calling)]
    end
    assert_equal [false, 1, [2, 2]], of_child
    # The child's gauge ended with it, and this process's did not.
    assert_equal [2, 1, 0], [*slab.totals.values_at(:requests, :calling), slab.slot.index]
  end

  def test_what_a_killed_child_was_doing_is_gone
    slab = slab()
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      slab.slot.incr(:requests, 10)
      slab.slot.incr(:calling)
      writer.write("x")
      sleep
    end
    writer.close
    assert_equal "x", reader.read(1)
    assert_equal [10, 1], slab.totals.values_at(:requests, :calling)
    Process.kill(:KILL, pid)
    Process.wait(pid)
    assert_equal [10, 0], slab.totals.values_at(:requests, :calling)
  end

  def test_what_a_parent_holds_its_child_does_not_give_back
    slab = slab()
    calling = slab.slot[:calling]
    held = calling.hold
    assert_equal(1, child do
      calling.give_back(held)
      slab.totals[:calling]
    end)
    assert_equal 3, slab.slot.hold(:calling) { slab.totals[:calling] + 1 }
    calling.give_back(held)
    assert_equal 0, slab.totals[:calling]
  end

  def test_a_server_does_not_end_for_want_of_a_slot
    slab = slab(slots: 1)
    slab.claim.incr(:requests)
    _, complaint = capture_subprocess_io { assert_equal(1, slab.slot.incr(:requests)); slab.slot.record(:answer, 1) }
    assert_match(/does not count: all 1 slots of slab shop are taken: create it with more/, complaint)
    assert_equal 1, complaint.lines.size
    assert_equal 1, slab.totals[:requests]
    error = assert_raises(RaindropsSlab::Error) { slab.claim }
    assert_equal "all 1 slots of slab shop are taken: create it with more", error.message
  end

  def test_a_file_is_opened_by_others
    Dir.mktmpdir do |directory|
      path = File.join(directory, "shop.slab")
      made = slab(path: path)
      made.slot.incr(:requests)
      opened = RaindropsSlab.open(path)
      assert_equal made.fields, opened.fields
      opened.slot.incr(:requests)
      assert_equal 2, made.totals[:requests]
      assert_equal 2, RaindropsSlab.for_fd(made.fileno).totals[:requests]
      opened.close
      assert_raises(RaindropsSlab::Error) { made.claim }
    end
  end

  def test_mistakes_are_told
    slot = slab.slot
    {
      "there is no field :nothing" => -> { slot.incr(:nothing) },
      "cannot incr requests with -1: it is a counter" => -> { slot.incr(:requests, -1) },
      "cannot incr answer: it is a histogram" => -> { slot.incr(:answer) },
      "cannot incr calling with 1.5: it is a gauge" => -> { slot.incr(:calling, 1.5) },
      "cannot decr requests: it is a counter" => -> { slot.decr(:requests) },
      "cannot set calling with nil: it is a gauge" => -> { slot.set(:calling, nil) },
      "cannot raise_max longest with -1: it is a max" => -> { slot.raise_max(:longest, -1) },
      "cannot record requests: it is a counter" => -> { slot.record(:requests, 1) },
      "cannot record answer with -1: it is a histogram" => -> { slot.record(:answer, -1) },
      "cannot record answer with #{1 << 70}: it is a histogram" => -> { slot.record(:answer, 1 << 70) },
      "no kind of field: :counts" => -> { RaindropsSlab.create(name: "a", slots: 1, fields: { a: :counts }) },
      "slots: -1" => -> { RaindropsSlab.create(name: "a", slots: -1, fields: { a: :counter }) },
      "string contains null byte" => -> { RaindropsSlab.open("a\0b") },
    }.each do |message, mistake|
      assert_equal message, assert_raises(ArgumentError, &mistake).message
    end
    {
      "there is no field" => -> { RaindropsSlab.create(name: "a", slots: 1, fields: {}) },
      "cannot open /nonexistent: No such file or directory (os error 2)" => -> { RaindropsSlab.open("/nonexistent") },
      "the slot has been released" => -> { slot.release; slot.incr(:requests) },
    }.each do |message, mistake|
      assert_equal message, assert_raises(RaindropsSlab::Error, &mistake).message
    end
  end

  def test_what_nobody_has_any_more_is_given_back
    slab = slab(slots: 1)
    # On a stack that ends.
    Thread.new { slab.claim.incr(:requests) }.join
    freed = 100.times.any? do
      GC.start
      slab.claim.incr(:requests)
    rescue RaindropsSlab::Error
      sleep 0.01
      false
    end
    assert freed
    assert_equal 2, slab.totals[:requests]
  end
end

class MiddlewareTest < Minitest::Test
  def test_counts_what_the_application_does
    stats = RaindropsSlab::Middleware::Stats.new(slots: 2)
    seen = []
    app = lambda do |_|
      seen << stats.to_hash
      [200, {}, ["body"]]
    end
    middleware = RaindropsSlab::Middleware.new(app, stats: stats)
    _, _, body = middleware.call("PATH_INFO" => "/")
    assert_equal [{ calling: 1, writing: 0, requests: 1 }], seen
    assert_equal [0, 1], [stats.calling, stats.writing]
    assert_equal ["body"], body.each.to_a
    2.times { body.close }
    assert_equal({ calling: 0, writing: 0, requests: 1 }, stats.to_hash)
    assert_equal [200, { "Content-Type" => "text/plain", "Content-Length" => "22" }, ["calling: 0\nwriting: 0\n"]],
                 middleware.call("PATH_INFO" => "/_raindrops")
    assert_equal 1, stats.requests
  end

  def test_counts_an_application_that_raises
    stats = RaindropsSlab::Middleware::Stats.new(slots: 2)
    middleware = RaindropsSlab::Middleware.new(->(_) { raise "no" }, stats: stats, path: "/stats")
    assert_raises(RuntimeError) { middleware.call("PATH_INFO" => "/") }
    assert_equal({ calling: 0, writing: 0, requests: 1 }, stats.to_hash)
  end

  def test_the_body_is_what_it_was
    stats = RaindropsSlab::Middleware::Stats.new(slots: 2)
    file = Struct.new(:to_path, :closed) do
      def each = yield("file")
      def close = self.closed = true
    end.new("/a/file", false)
    middleware = RaindropsSlab::Middleware.new(->(_) { [200, {}, file] }, stats: stats)
    _, _, body = middleware.call("PATH_INFO" => "/")
    assert_equal ["/a/file", true, true, false],
                 [body.to_path, body.respond_to?(:to_path), body.respond_to?(:close), body.respond_to?(:nothing)]
    body.close
    assert file.closed
  end
end
