# C-13: an agent that was just restarted has not heard anybody yet, which is no evidence that they are gone.
cluster n1 n2 n3 durability quorum
lead n1
cut n1 n3
wait 3s
crash n2 agent
expect rule all for 5s
kill n3                         # now it is, and n2 never heard it since its restart
crash n2 agent
expect rule n2 within 10s
