# The old leader is back as a standby before a proxy that hears nothing has forgotten it: no writer is given to it.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
deafen-proxy p1 for 2s
kill n1 postmaster
wait 700ms
via p1 x1 single
expect told x1 done within 4s
expect once x1
wait 2s
end
