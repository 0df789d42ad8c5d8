# frozen_string_literal: true

# Counters in shared memory that raindrops, or anybody, reads from outside; see docs/slabs.md.
#
#   slab = RaindropsSlab.create(name: "shop", slots: 8, fields: {
#     requests: :counter, calling: :gauge, longest: [:max, "us"],
#     answer: [:histogram, "us", 60_000_000],
#   })                                   # before the server forks
#   slot = slab.slot                     # this process's, in each process another
#   slot.incr(:requests)
#   requests = slot[:requests]           # the same without looking it up each time
#   requests.incr
#   slot.record(:answer, 1200)
#   slab.totals                          # => {requests: 1, calling: 0, longest: 0, answer: ...}
#
# One file, for CRuby 3.1 and later on 64-bit Linux. It needs libraindrops_slab.so: at the path in
# RAINDROPS_SLAB_LIB, else where the system's loader finds it.
#
# Threads: all threads of a process count in one slot, each time with one atomic instruction.
# Forks: a child claims a slot of its own when it first counts. Nothing is asked for this at each
# count: Process._fork, which fork calls, makes the child's fields forget where they count.
#
# What a count costs: `slot[:requests].incr`, with the field kept, is one method written in C, as
# Raindrops#incr is; `slot.incr(:requests)` is a method and a look-up more. docs/performance.md has the
# figures. The methods written in C are not called through Fiddle, which costs more than the count: Ruby
# is told their addresses, once.

RUBY_VERSION >= "3.1" or raise LoadError, "raindrops_slab needs Ruby 3.1, to notice forks"

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
      @slab_pointer = pointer
      @lock = Mutex.new
      @released = false
      @fields = slab.fields.to_h { |field| [field.name, Slot.const_get(field.kind.capitalize).new(self, field)] }
      @counts = false
      SLOTS[self] = true
    end

    # A field, which counts without being looked up each time: `slot[:requests].incr`.
    def [](name)
      @fields[name] or raise ArgumentError, "there is no field #{name.inspect}"
    end

    # Adds to a counter or gauge.
    def incr(name, by = 1)
      (@fields[name] || self[name]).incr(by)
    end
    alias add incr

    # Takes from a gauge.
    def decr(name, by = 1)
      (@fields[name] || self[name]).decr(by)
    end

    # Sets a gauge.
    def set(name, level)
      (@fields[name] || self[name]).set(level)
    end

    # Raises a max to `value`, unless it is there or above.
    def raise_max(name, value)
      (@fields[name] || self[name]).raise_max(value)
    end

    # Records a value, which is not negative, in a histogram.
    def record(name, value)
      (@fields[name] || self[name]).record(value)
    end

    # Adds one to a gauge while the block runs.
    def hold(name, &block)
      self[name].hold(&block)
    end

    # Claims it in this process, where it has not been.
    def claim
      @released and raise Error, "the slot has been released"
      @lock.synchronize { @pointer or point(Library.slab_claim(@slab_pointer, SHARED)) }
      self
    end

    def claimed?
      !@pointer.nil?
    end

    # Its number in the slab, when it is claimed.
    def index
      @pointer && Library.check(Library.slot_index(@pointer))
    end

    # Which process's it is: a number that is another one in each child.
    def process
      FORKS[0]
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
      @counts = false
      @fields.each_value { |field| field.point(0, 0) }
    end

    # Makes fields count that do not.
    def wake
      @released and raise Error, "the slot has been released"
      @counts and return

      begin
        claim
      rescue Error => error
        warn "raindrops_slab: process #{$$} does not count: #{error.message}"
        @lock.synchronize { lose }
      end
    end

    private

    def point(pointer)
      @pointer = Library.own(pointer, "raindrops_slot_release")
      @fields.each_value { |field| field.point(*field.find(@pointer)) }
      @counts = true
    end

    # Counts into memory that nobody reads.
    def lose
      words = @fields.each_value.map(&:words).max
      @lost = Fiddle::Pointer.malloc(8 * words, Fiddle::RUBY_FREE)
      @lost[0, 8 * words] = "\0" * (8 * words)
      @fields.each_value { |field| field.point(@lost.to_i, field.words - 1) }
      @counts = true
    end

    # A field of a slot. Its methods that count are functions of the library; see `METHODS`.
    class Field
      attr_reader :name, :words

      def initialize(slot, field)
        @slot = slot
        @name = field.name
        @words = field.words
      end

      %i[incr decr set raise_max record hold].each do |method|
        define_method(method) { |*| raise ArgumentError, "cannot #{method} #{@name}: it is a #{kind}" }
      end

      def kind
        self.class.name[/\w+\z/].downcase
      end

      def inspect
        "#<#{self.class} #{@name}>"
      end

      # Where it counts in a claimed slot: an address, and how many buckets there are.
      def find(pointer)
        [Library.slot_word(pointer, "#{@name}\0", KINDS.fetch(kind.to_sym)).to_i, 0]
      end

      undef_method :dup, :clone

      private

      # Why it did not count: not claimed in this process yet, or a wrong value.
      def again(number, value)
        method = DOING.fetch(number)
        if Thread.current[:raindrops_slab_again]
          raise ArgumentError, "cannot #{method} #{@name} with #{value.inspect}: it is a #{kind}"
        end

        # Another thread may have claimed meanwhile, so that there is one more try in any case.
        @slot.wake
        begin
          Thread.current[:raindrops_slab_again] = true
          __send__(method, value)
        ensure
          Thread.current[:raindrops_slab_again] = nil
        end
      end
    end

    class Counter < Field
    end

    class Gauge < Field
    end

    class Max < Field
    end

    class Histogram < Field
      def find(pointer)
        histogram = "\0" * 16
        Library.check(Library.slot_histogram(pointer, "#{@name}\0", histogram))
        histogram.unpack("QL")
      end
    end

    # What the library calls what a field was to do.
    DOING = %i[incr decr set raise_max record].freeze
    METHODS = {
      Counter => { incr: "counter_incr" },
      Gauge => { incr: "gauge_incr", decr: "gauge_decr", set: "gauge_set" },
      Max => { raise_max: "max_raise" },
      Histogram => { record: "histogram_record" },
    }.freeze
    private_constant :DOING, :METHODS

    if RUBY_ENGINE != "ruby" || Fiddle::SIZEOF_VOIDP != 8
      raise LoadError, "raindrops_slab needs CRuby on a 64-bit machine"
    end
    pointer, int = Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT
    ruby = Fiddle.dlopen(nil)
    call = lambda do |function, *arguments|
      types = arguments.map { |it| it.is_a?(Integer) && it.abs < 10 ? int : pointer }
      Fiddle::Function.new(function, types, pointer, need_gvl: true).call(*arguments)
    end
    own = ->(name) { Library::HANDLE["raindrops_ruby_#{name}"] }
    needed = %w[rb_check_typeddata rb_funcallv rb_data_typed_object_wrap].map { |name| ruby[name] }
    call[own["begin"], *needed, call[ruby["rb_intern"], "again\0"].to_i]
    call[ruby["rb_define_method"], Fiddle.dlwrap(Field), "point\0", own["point"], 2]
    METHODS.each do |type, methods|
      call[ruby["rb_define_alloc_func"], Fiddle.dlwrap(type), own["allocate"]]
      methods.each do |name, function|
        call[ruby["rb_define_method"], Fiddle.dlwrap(type), "#{name}\0", own[function], -1]
      end
    end

    class Gauge
      # Adds one while the block runs, or until it is given back. Where it does so in a child that has
      # been forked in between, nothing is taken: what is held is the parent's.
      def hold
        incr
        process = @slot.process
        return process unless block_given?

        begin
          yield
        ensure
          give_back(process)
        end
      end

      def give_back(process)
        process == @slot.process and decr
      end
    end
  end

  SLOTS = ObjectSpace::WeakMap.new
  # How many forks lie between this process and the one that has loaded this.
  FORKS = [0]
  private_constant :SLOTS, :FORKS

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
    FORKS[0] += 1
    SLOTS.each_key(&:forget)
  end

  Process.singleton_class.prepend(Forks)
end
