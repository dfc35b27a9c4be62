# C-6: from any 1 of n2 to any 2 of n2 and n3 it goes by any 1 of both. At one go, a walsender that still reads the
# older rule would take n3's word alone for a commit.
seed 2
cluster n1 n2 n3 durability quorum acks 2
weather 1ms 8ms loss 0 twice 0 stray 0
store lost 0 late 0 slow 600
lead n1
load 5 20ms
expect rule n2 n3 within 10s
kill n3 postmaster
wait 3s
cut n3 n1 for 8s
wait 14s
expect rule n2 n3 within 30s
cut n2 n1 for 8s
wait 14s
expect rule n2 n3 within 30s
end
