#!/bin/busybox sh
# The first process of the virtual machine: runs what is in /raindrops/plan, and says on the second
# serial port how each test ended.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
ln -s /run /var/run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# No file system of its own: the repository may be below it.
chmod 1777 /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
stty -F /dev/ttyS1 raw -echo
exec </dev/null >/dev/ttyS1
ip link set lo up

for module in $(cat /raindrops/modules); do
    insmod "/raindrops/$module.ko" || echo "TROUBLE insmod $module"
done

run() {
    echo "BEGIN $1 $2::$4"
    rm -f /tmp/skipped /tmp/facts
    touch /tmp/skipped /tmp/facts
    RAINDROPS_BIN=/raindrops/raindrops \
        RAINDROPS_ACCEPT_HOOK="$1" \
        RAINDROPS_EXPECT_BPF=1 \
        RAINDROPS_CEILING_FACTOR=6 \
        RAINDROPS_SKIPPED_TESTS=/tmp/skipped \
        RAINDROPS_FACTS=/tmp/facts \
        timeout -s KILL 180 "$3" --exact "$4" >/tmp/output 2>&1
    status=$?
    sed 's/^/FACT /' /tmp/facts
    cat /tmp/skipped
    [ $status = 0 ] || sed 's/^/| /' /tmp/output
    echo "END $status"
    killall -q -9 raindrops epoll_worker
}

echo "KERNEL $(uname -r) $(nproc)"
while read -r hook suite program name; do
    run "$hook" "$suite" "$program" "$name"
done </raindrops/plan
echo DONE
sync
poweroff -f
