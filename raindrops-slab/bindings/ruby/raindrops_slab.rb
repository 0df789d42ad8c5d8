# frozen_string_literal: true

# Counters in shared memory that raindrops, or anybody, reads from outside; see docs/slabs.md.
#
#   slab = RaindropsSlab.create(name: "shop", slots: 8, fields: {
#     requests: :counter, calling: :gauge, longest: [:max, "us"],
#     answer: [:histogram, "us", 60_000_000],
#   })                                   # before the server forks
#   slot = slab.slot                     # this process's, in each process another
#   slot.incr(:requests)
#   slot.record(:answer, 1200)
#   slab.totals                          # => {requests: 1, calling: 0, longest: 0, answer: ...}
#
# One file, for CRuby 3.1 and later on 64-bit Linux. It needs libraindrops_slab.so: at the path in
# RAINDROPS_SLAB_LIB, else where the system's loader finds it.
#
# Threads: all threads of a process count in one slot, each time with one atomic instruction.
# Forks: a child claims a slot of its own when it first counts. Nothing is asked for this at each
# count: Process._fork, which fork calls, empties the child's table of addresses.
#
# What a count costs: `slot.incr(:name)` is a call of a method, a look-up in a Hash, and a call of a
# method written in C, which is all that Raindrops#incr is. Where that took 31 ns alone, and three times
# as long with two processes on one counter, this took 75 ns, however many processes count: no two of
# them share a word. The method written in C is not called through Fiddle, which takes microseconds:
# Ruby is told its address, once.

require "fiddle"

class RaindropsSlab
  class Error < StandardError; end

  # Functions of the library. None of them waits, so that they keep the lock of the interpreter.
  module Library
    POINTER = Fiddle::TYPE_VOIDP
    INT = Fiddle::TYPE_INT
    # No count is negative, but -1 says that a call has failed.
    LONG = Fiddle::TYPE_LONG_LONG
    SIZE = Fiddle::TYPE_SIZE_T
    private_constant :POINTER, :INT, :LONG, :SIZE

    path = ENV["RAINDROPS_SLAB_LIB"]
    begin
      HANDLE = Fiddle.dlopen(path || "libraindrops_slab.so")
    rescue Fiddle::DLError => error
      raise LoadError, "#{error.message}: set RAINDROPS_SLAB_LIB to the path of " \
                       "libraindrops_slab.so (`cargo build --release -p raindrops-slab-c` makes it)"
    end

    def self.function(name, arguments, result)
      function = Fiddle::Function.new(HANDLE["raindrops_#{name}"], arguments, result, need_gvl: true)
      define_singleton_method(name) { |*values| function.call(*values) }
    end
    private_class_method :function

    function :slab_error, [], POINTER
    function :slab_create, [POINTER, POINTER, INT, POINTER, SIZE], POINTER
    function :slab_open, [POINTER], POINTER
    function :slab_from_fd, [INT], POINTER
    function :slab_fd, [POINTER], INT
    function :slab_close, [POINTER], INT
    function :slab_claim, [POINTER, INT], POINTER
    function :slab_fields, [POINTER], LONG
    function :slab_field, [POINTER, SIZE, POINTER, POINTER], INT
    function :slab_totals, [POINTER, POINTER, SIZE], LONG
    function :slot_word, [POINTER, POINTER, INT], POINTER
    function :slot_histogram, [POINTER, POINTER, POINTER], INT
    function :slot_index, [POINTER], LONG

    def self.fail
      raise Error, slab_error.to_s.force_encoding(Encoding::UTF_8)
    end

    # A pointer that a call has returned, freed by `free` when nobody has it any more.
    def self.own(pointer, free)
      pointer.null? and fail
      Fiddle::Pointer.new(pointer.to_i, 0, HANDLE[free])
    end

    def self.check(result)
      result.negative? and fail
      result
    end

    def self.string(text)
      text = text.to_s
      text.include?("\0") and raise ArgumentError, "string contains null byte"
      "#{text}\0"
    end
  end
  private_constant :Library

  # Methods whose bodies are functions of the library. They return false where they cannot count.
  module Native
    if RUBY_ENGINE != "ruby" || Fiddle::SIZEOF_VOIDP != 8
      raise LoadError, "raindrops_slab needs CRuby on a 64-bit machine"
    end
    define = Fiddle::Function.new(
      Fiddle.dlopen(nil)["rb_define_module_function"],
      [Fiddle::TYPE_VOIDP, Fiddle::TYPE_VOIDP, Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT],
      Fiddle::TYPE_VOID, need_gvl: true
    )
    { add: 2, subtract: 2, set: 2, raise: 2, record: 3 }.each do |name, arity|
      body = Library.const_get(:HANDLE)["raindrops_ruby_#{name}"]
      define.call(Fiddle.dlwrap(self), "#{name}\0", body, arity)
    end
  end
  private_constant :Native

  KINDS = { counter: 1, gauge: 2, max: 3, histogram: 4 }.freeze
  # As of C: name, kind, unit and highest.
  FIELD = "JLx4JQ"
  FIELD_SIZE = 32
  SHARED = 1
  private_constant :KINDS, :FIELD, :FIELD_SIZE, :SHARED

  Field = Struct.new(:name, :kind, :unit, :words)

  # How values are spread: `buckets` has the ranges that any value fell into, and how many.
  Histogram = Struct.new(:sum, :buckets) do
    def count
      buckets.each_value.sum
    end

    # The range that a value of this rank, from 0 to 1, falls into.
    def quantile(rank)
      wanted = (count * rank).ceil.clamp(1..)
      buckets.each { |range, n| (wanted -= n).positive? or return range }
      nil
    end

    def self.of(words)
      sum, *counts = words
      buckets = counts.each_with_index.filter_map do |n, bucket|
        [range(bucket, counts.size), n] if n.positive?
      end
      new(sum, buckets.to_h)
    end

    def self.range(bucket, count)
      shift = [bucket / 4 - 1, 0].max
      least = bucket < 4 ? bucket : (4 + bucket % 4) << shift
      bucket == count - 1 ? (least..) : (least..least + (1 << shift) - 1)
    end
  end

  class << self
    # Creates a slab with room for `slots` processes at one time. `fields` says of each whether it is
    # a :counter, a :gauge, a :max or a :histogram, or, with its unit, [:counter, "bytes"]; a
    # histogram has the highest value that it tells apart too: [:histogram, "us", 60_000_000].
    #
    # Without a path it is memory of this process and those that it forks.
    def create(name:, slots:, fields:, path: nil)
      texts = []
      pointer = lambda do |text|
        texts << Library.string(text)
        Fiddle::Pointer[texts.last].to_i
      end
      declared = fields.map do |field, (kind, unit, highest)|
        number = KINDS[kind] or raise ArgumentError, "no kind of field: #{kind.inspect}"
        highest.nil? == (kind == :histogram) and
          raise ArgumentError, "#{field}: a histogram, and nothing else, has a highest value"
        [pointer[field], number, unit ? pointer[unit] : 0, highest || 0].pack(FIELD)
      end
      Integer === slots && slots.between?(1, 0x7fff_ffff) or raise ArgumentError, "slots: #{slots.inspect}"
      new(Library.slab_create(path && Library.string(path), Library.string(name), slots,
                              declared.join, declared.size))
    end

    # Opens a slab's file that another process has created.
    def open(path)
      new(Library.slab_open(Library.string(path)))
    end

    # The slab of a descriptor that another process has handed over.
    def for_fd(fd)
      new(Library.slab_from_fd(fd))
    end

    private :new
  end

  attr_reader :fields

  def initialize(pointer)
    @pointer = Library.own(pointer, "raindrops_slab_free")
    @fields = Array.new(Library.check(Library.slab_fields(@pointer))) do |index|
      field, words = "\0" * FIELD_SIZE, "\0" * 4
      Library.check(Library.slab_field(@pointer, index, field, words))
      name, kind, unit = field.unpack(FIELD)
      Field.new(Fiddle::Pointer.new(name).to_s.to_sym, KINDS.key(kind),
                Fiddle::Pointer.new(unit).to_s, words.unpack1("L"))
    end.freeze
    @slot = Slot.new(self, @pointer)
  end

  # The slot of this process, whichever it is: claimed when it first counts, in each child again.
  # Where none is free, that is said once on standard error, and what it counts is lost: a server
  # does not end for want of counters.
  attr_reader :slot

  # Claims a slot now, and raises where none is free.
  def claim
    slot = Slot.new(self, @pointer)
    slot.claim
    slot
  end

  # What all processes have counted, and the gauges of those that live.
  def totals
    buffer = "\0" * (8 * @fields.sum(&:words))
    Library.check(Library.slab_totals(@pointer, buffer, buffer.bytesize / 8))
    at = 0
    @fields.to_h do |field|
      words = buffer.byteslice(at, field.words * 8)
      at += field.words * 8
      [field.name, case field.kind
                   when :gauge then words.unpack1("q")
                   when :histogram then Histogram.of(words.unpack("Q*"))
                   else words.unpack1("Q")
                   end]
    end
  end

  # Lets nobody claim a slot any more. Counts can still be read.
  def close
    Library.check(Library.slab_close(@pointer))
    nil
  end

  # Its descriptor, to hand over to another process.
  def fileno
    Library.check(Library.slab_fd(@pointer))
  end

  def inspect
    "#<#{self.class} #{@fields.map(&:name).join(" ")}>"
  end

  # Where one process counts.
  class Slot
    def initialize(slab, pointer)
      @slab = slab
      @slab_pointer = pointer
      @lock = Mutex.new
      @released = false
      forget
      SLOTS[self] = true
    end

    # Adds to a counter or gauge.
    def incr(name, by = 1)
      Native.add(@words[name], by) or again(:add, name, by)
    end
    alias add incr

    # Takes from a gauge.
    def decr(name, by = 1)
      Native.subtract(@words[name], by) or again(:subtract, name, by)
    end

    # Sets a gauge.
    def set(name, level)
      Native.set(@words[name], level) or again(:set, name, level)
    end

    # Raises a max to `value`, unless it is there or above.
    def raise_max(name, value)
      Native.raise(@words[name], value) or again(:raise, name, value)
    end

    # Records a value, which is not negative, in a histogram.
    def record(name, value)
      Native.record(@words[name], @buckets[name], value) or again(:record, name, value)
    end

    # Adds one to a gauge until `give_back`, or while the block runs. What it returns is for
    # `give_back`, which does nothing in a child that has been forked in between: what is held is its
    # parent's.
    def hold(name)
      incr(name)
      held = @words[name]
      return held unless block_given?

      begin
        yield
      ensure
        give_back(name, held)
      end
    end

    def give_back(name, held)
      @words[name] == held and decr(name)
    end

    # Claims it in this process, where it has not been.
    def claim
      @lock.synchronize { claimed? or fill(Library.slab_claim(@slab_pointer, SHARED)) }
      self
    end

    def claimed?
      !@pointer.nil?
    end

    # Its number in the slab, when it is claimed.
    def index
      @pointer && Library.check(Library.slot_index(@pointer))
    end

    # Gives it back: its counts stay, its gauges end. Also done when Ruby ends. Counting raises
    # afterwards.
    def release
      @lock.synchronize do
        pointer = @pointer
        @released = true
        forget
        pointer&.call_free
      end
      nil
    end

    def inspect
      "#<#{self.class} #{index.inspect}>"
    end

    # In a child, where it is the parent's.
    def forget
      @pointer = nil
      @words = {}
      @buckets = {}
    end

    private

    # Why it did not count: not claimed in this process yet, or wrong arguments.
    def again(method, name, value)
      @released and raise Error, "the slot has been released"
      @words.empty? and claim_or_lose
      details = method == :record ? [@buckets[name], value] : [value]
      Native.public_send(method, @words[name], *details) and return value
      field = @slab.fields.find { |it| it.name == name }
      field or raise ArgumentError, "there is no field #{name.inspect}"
      raise ArgumentError, "cannot #{method} #{value.inspect}: #{name} is a #{field.kind}"
    end

    def claim_or_lose
      claim
    rescue Error => error
      warn "raindrops_slab: process #{$$} does not count: #{error.message}"
      @lock.synchronize { lose }
    end

    def fill(pointer)
      @pointer = Library.own(pointer, "raindrops_slot_release")
      words, buckets = {}, {}
      @slab.fields.each do |field|
        name = Library.string(field.name)
        if field.kind == :histogram
          histogram = "\0" * 16
          Library.check(Library.slot_histogram(@pointer, name, histogram))
          address, buckets[field.name] = histogram.unpack("QL")
        else
          address = Library.slot_word(@pointer, name, KINDS.fetch(field.kind)).to_i
        end
        words[field.name] = address | KINDS.fetch(field.kind)
      end
      @buckets, @words = buckets, words
    end

    # Counts into memory that nobody reads.
    def lose
      @lost = Fiddle::Pointer.malloc(8 * @slab.fields.map(&:words).max, Fiddle::RUBY_FREE)
      address = @lost.to_i
      @buckets = @slab.fields.to_h { |field| [field.name, field.words - 1] }
      @words = @slab.fields.to_h { |field| [field.name, address | KINDS.fetch(field.kind)] }
    end
  end

  SLOTS = ObjectSpace::WeakMap.new
  private_constant :SLOTS

  # In the children that `fork` makes, no slot is theirs.
  module Forks
    def _fork
      pid = super
      RaindropsSlab.forked if pid.zero?
      pid
    end

    # Goes on in a child, and does not call `_fork`.
    def daemon(*)
      result = super
      RaindropsSlab.forked
      result
    end
  end
  private_constant :Forks

  def self.forked
    SLOTS.each_key(&:forget)
  end

  Process.singleton_class.prepend(Forks)
end
