# Relaxed: a leader that served alone lets its standby in again, and is cut off when that was agreed, before it knows.
cluster n1 n2 witness w durability quorum-relaxed
lead n1
wait 2s
kill n2
expect rule nobody within 20s
wait 2s
when rule-end any cut n1
start n2
expect term 2 leader n2 within 40s
wait 20s
load 60 40ms
wait 2s
end
