# A commit's wait for the standbys is cancelled at the server, and then the leader is lost, which alone had it:
# nobody was told that it is done, and it is run again or refused.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
close-port n1
wait 10ms
via p1 x1 block
wait 100ms
cancel-waits n1
expect untold x1 for 1s
expect reached "front: a commit's wait was cut short"
kill n1
expect told x1 40001 within 8s
expect never x1
calm
wait 3s
end
